"""What belongs to an object: OMERO's rules for deleting and moving graphs, derived from the schema.

Parts, such as the wells of a plate and the pixels of an image, always go with their whole. A link goes with either of
its ends. What an object owns, such as its annotations, the images of a dataset or the statistics of a channel, goes
along unless another object owns it too. The operation is refused if something that stays needs something that goes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

import omero.cmd
import sqlalchemy as sa

from omero_embedded.model import rows
from omero_embedded.model.schema import Entity, Field, schema
from omero_embedded.model.targets import is_one_of

Ids = dict[str, set[int]]  # by the name of the topmost class
Allowed = Callable[[int | None, int | None, str], bool]  # for owner, group and topmost class of a row

# Optional references whose holders are nevertheless parts of what they refer to.
OPTIONAL_PARTS = {("WellSample", "plateAcquisition"), ("Folder", "parentFolder")}
# References whose targets own the holders: a holder goes along if no other object owns it.
HAD_BY_TARGET = {("Roi", "image")}
# References whose holders own the target, and go along with it too.
TWINS = {("FileAnnotation", "file"), ("Image", "fileset"), ("Channel", "logicalChannel")}
# References from settings to devices: settings go with their device, not with the image or channel that has them.
SETTINGS = {"ObjectiveSettings": "objective", "LightSettings": "lightSource", "DetectorSettings": "detector"}
# Links whose child owns the parent.
REVERSED_LINKS = {"PixelsOriginalFileMap"}
# Annotations that go along only with objects of the same owner, and not with a link that is deleted alone.
OF_ONE_OWNER = ("FileAnnotation", "TagAnnotation")


class GraphError(Exception):
    """The graph can't be deleted or moved. The message says what is in the way.

    Attributes
    ----------
    name
        OMERO's name of the error.
    detailed
        Whether the answer is a GraphException rather than a plain ERR.
    """

    def __init__(self, message: str, name: str = "graph-fail", detailed: bool = True):
        super().__init__(message)
        self.name, self.detailed = name, detailed


@dataclass(frozen=True)
class Relations:
    """How objects of a topmost class are connected with others. All columns are in the tables of topmost classes."""

    parts: list[tuple[Entity, Field]]  # the part's class and its reference to this one
    links: list[tuple[Entity, str, str]]  # link class, its end here, its far end
    had: list[tuple[Entity, Field]]  # what this class owns by a reference of its own
    holders_had: list[tuple[Entity, Field]]  # what it owns by a reference of the other class


@cache
def relations(name: str) -> Relations:
    """The relations of a topmost class."""
    known = schema()
    entity = known[name]
    parts, links, holders_had = [], [], []
    for other, one in known.references_to(entity):
        if other.is_global:
            continue
        if other.is_link:
            links.append((other.root, one.name, "child" if one.name == "parent" else "parent"))
        elif is_part(other, one) or (other.name, one.name) in TWINS or SETTINGS.get(other.name) == one.name:
            parts.append((other, one))
        elif (other.name, one.name) in HAD_BY_TARGET:
            holders_had.append((other, one))
    had = [
        (known[one.target or ""].root, one)
        for member in entity.family()
        for one in member.fields.values()
        if one.kind == "ref"
        and not (member.parent and one.name in member.parent.fields)
        and not (entity.is_link and not _takes_along(entity, one))
        and not is_part(member, one)
        and (member.name, one.name) not in HAD_BY_TARGET
    ]
    had = [(target, one) for target, one in had if is_had(target.name) and target.name not in SETTINGS]
    return Relations(parts, links, had, holders_had)


def _takes_along(link: Entity, one: Field) -> bool:
    """Whether a deleted link takes its child along, which is so for annotations."""
    return one.name == "child" and link.fields["child"].target == "Annotation"


@cache
def _part_fields(name: str) -> frozenset[str]:
    """The references of a class whose targets own its objects."""
    entity = schema()[name]
    owners = {
        one.inverse: one
        for other in schema().entities.values()
        for one in other.fields.values()
        if one.kind == "collection" and entity.is_a(one.target or "") and not entity.is_link
    }
    required = {back for back in owners if back and not entity.fields[back].nullable}
    lists = {back for back in required if owners[back].index}
    return frozenset(lists or required) | {back for cls, back in OPTIONAL_PARTS if entity.is_a(cls)}


def is_part(entity: Entity, one: Field) -> bool:
    """Whether the target of a reference owns the objects that have the reference."""
    return one.name in _part_fields(entity.name)


@cache
def is_had(name: str) -> bool:
    """Whether objects of a class may go along: those with an owner, but not the system's own."""
    target = schema()[name]
    return not target.is_global and all(target.fields[one].nullable for one in _part_fields(name))


def neighbors(connection: sa.Connection, name: str, ids: set[int]) -> Iterator[tuple[str, Entity, set[int]]]:
    """What hangs together with objects of a topmost class, as (how, class, ids), how being "part", "link" or "had"."""
    own, how = schema()[name].table, relations(name)
    holds = [(part, one.name, part.table.c.id) for part, one in how.parts]
    holds += [(link, near, link.table.c[far]) for link, near, far in how.links]
    holds += [(holder, one.name, holder.table.c.id) for holder, one in how.holders_had]
    found = iter(_holding(connection, name, holds, ids))
    for part, _ in how.parts:
        yield "part", part, {holder for holder, _ in next(found)}
    for link, near, far in how.links:
        pairs = next(found)
        yield "link", link, {holder for holder, _ in pairs}
        target = schema()[link.fields[far].target or ""].root
        if pairs and near == near_end(link) and is_had(target.name):
            others = {other for _, other in pairs}
            yield "had", target, others - _of_another_owner(connection, link, own, ids)
    for holder, _ in how.holders_had:
        yield "had", holder, {oid for oid, _ in next(found)}
    if how.had:
        columns = [own.c[one.name] for _, one in how.had]
        values = connection.execute(sa.select(*columns).where(rows.among(own.c.id, ids))).all()
        for (target, _), had in zip(how.had, zip(*values)):
            only = _of_one_owner(connection, set(had)) if schema()[name].is_link else set()
            yield "had", target, set(had) - {None} - only
    if instruments := _instruments_in_use(connection, name, ids):
        yield "had", schema()["Instrument"], instruments


def _holding(
    connection: sa.Connection, name: str, holds: list[tuple[Entity, str, sa.Column]], ids: set[int]
) -> list[list[tuple[int, int]]]:
    """Find what refers to some objects of a topmost class, by one statement for many references.

    Parameters
    ----------
    holds
        Classes, a reference of each, and what is wanted beside its id; always the same ones for a name and a number.

    Returns
    -------
    list
        Pairs of a holder's id and what is wanted of it, for each element of `holds`.
    """
    found: list[list[tuple[int, int]]] = [[] for _ in holds]
    if holds and ids:
        statement = _holding_statement(name, tuple((entity.name, one, wanted) for entity, one, wanted in holds))
        for number, holder, wanted in connection.execute(statement, {"ids": json.dumps(list(ids))}):
            found[number].append((holder, wanted))
    return found


@cache
def _holding_statement(name: str, holds: tuple[tuple[str, str, sa.Column], ...]) -> sa.CompoundSelect:
    ids = sa.select(sa.func.json_each(sa.bindparam("ids")).table_valued("value").c.value)
    selects = []
    for number, (entity, one, wanted) in enumerate(holds):
        columns = schema()[entity].table.c
        selects.append(sa.select(sa.literal_column(str(number)), columns.id, wanted).where(columns[one].in_(ids)))
    return sa.union_all(*selects)


@cache
def _references_to(name: str) -> list[tuple[Entity, Field]]:
    return list(schema().references_to(schema()[name]))


def referring(connection: sa.Connection, name: str, ids: set[int]) -> Iterator[tuple[Entity, Field, dict[int, int]]]:
    """Everything that refers to some objects of a topmost class: the class, the reference, and targets by holder."""
    references = _references_to(name)
    holds = [(other, one.name, other.table.c[one.name]) for other, one in references]
    for (other, one), pairs in zip(references, _holding(connection, name, holds, ids)):
        if pairs:
            yield other, one, dict(pairs)


def _of_one_owner(connection: sa.Connection, ids: set[int]) -> set[int]:
    """Those of some annotations that don't go with a link."""
    columns = schema()["Annotation"].table.c
    wanted = sa.select(columns.id).where(rows.among(columns.id, ids), columns["class"].in_(OF_ONE_OWNER))
    return set(connection.execute(wanted).scalars())


def _instruments_in_use(connection: sa.Connection, name: str, ids: set[int]) -> set[int]:
    """The instruments of the devices that the settings of images or logical channels name."""
    found: set[int] = set()
    known = schema()
    for one in known[name].fields.values() if name in ("Image", "LogicalChannel") else ():
        if one.target in SETTINGS:
            own, settings = known[name].table, known[one.target].table
            device = known[known[one.target].fields[SETTINGS[one.target]].target or ""].table
            joined = own.join(settings, settings.c.id == own.c[one.name])
            joined = joined.join(device, device.c.id == settings.c[SETTINGS[one.target]])
            wanted = sa.select(device.c.instrument).select_from(joined).where(rows.among(own.c.id, ids))
            found |= set(connection.execute(wanted).scalars())
    return found


def _of_another_owner(connection: sa.Connection, link: Entity, own: sa.Table, ids: set[int]) -> set[int]:
    """The files and tags on objects that have another owner than the object."""
    if link.fields["child"].target != "Annotation":
        return set()
    annotation = schema()["Annotation"].table
    kept, left = own.alias(), link.table.c
    found = (
        connection.execute(
            sa.select(left.child, kept.c._owner == annotation.c._owner).where(
                rows.among(left.parent, ids),
                kept.c.id == left.parent,
                annotation.c.id == left.child,
                annotation.c["class"].in_(OF_ONE_OWNER),
            )
        )
        .tuples()
        .all()
    )
    return {child for child, _ in found} - {child for child, same in found if same}


def near_end(link: Entity) -> str:
    """The end of a link that owns the other end."""
    return "child" if link.name in REVERSED_LINKS else "parent"


def find_below(
    connection: sa.Connection, targets: Iterable[tuple[Entity, set[int]]], names: list[str]
) -> dict[str, list[int]]:
    """Find the nearest objects of some classes below the targets, as ids by class name."""
    wanted = [entity for name in names if (entity := schema().find(name))]
    found: Ids = {}
    seen: Ids = {}
    todo = [(entity.root, ids) for entity, ids in targets]
    while todo:
        entity, ids = todo.pop()
        fresh = ids - seen.setdefault(entity.name, set())
        seen[entity.name] |= fresh
        for _, other, below in neighbors(connection, entity.name, fresh) if fresh else ():
            matching = [one for one in wanted if one.root is other.root]
            for one in matching:
                found.setdefault(one.name, set()).update(of_class(connection, one, below))
            if not matching:
                todo.append((other.root, below))
    return {name: sorted(ids) for name, ids in found.items()}


def of_class(
    connection: sa.Connection, entity: Entity, ids: Iterable[int], left_out: Callable[[Entity], bool] = lambda _: False
) -> set[int]:
    """Select the ids whose objects are of a class, without those of some classes below it."""
    kinds = [one.name for one in entity.family() if not left_out(one)]
    columns = entity.table.c
    wanted = [rows.among(columns.id, ids)]
    if "class" in columns:
        wanted.append(columns["class"].in_(kinds))
    return set(connection.execute(sa.select(columns.id).where(*wanted)).scalars()) if kinds else set()


@dataclass
class ChildOptions:
    """omero.cmd.graphs.ChildOption: which of the things that an object owns go along with it."""

    options: list[omero.cmd.graphs.ChildOption] = field(default_factory=list)

    def __post_init__(self):
        for option in self.options:
            named = [*(option.includeType or ()), *(option.excludeType or ())]
            if unknown := [name for name in named if schema().find(name) is None]:
                raise GraphError(f"unknown model object class named: {unknown[0]}", name="steps-cancel", detailed=False)
            if not named:
                raise GraphError("A child option includes or excludes no type.", name="steps-cancel", detailed=False)
            if option.includeNs and option.excludeNs:
                raise GraphError(
                    "A child option both includes and excludes namespaces.", name="steps-cancel", detailed=False
                )

    def decide(self, entity: Entity, namespace: str | None = None) -> bool | None:
        """True: it goes along even if another object owns it. False: it stays. None: it goes if no other owns it."""
        for option in self.options:
            if entity.is_a("Annotation") and (
                (option.includeNs and namespace not in option.includeNs)
                or (option.excludeNs and namespace in option.excludeNs)
            ):
                continue
            if _named(entity, option.includeType):
                return True
            if _named(entity, option.excludeType):
                return False
        return None


def _named(entity: Entity, names: Iterable[str] | None) -> bool:
    found = (schema().find(name) for name in names or ())
    return any(entity.is_a(one.name) for one in found if one is not None)


class Closure:
    """Some objects and everything that goes along with them.

    Parameters
    ----------
    allowed
        Whether the user may do it to a row with an owner, a group and a topmost class.
    free
        Classes whose objects go along whoever owns them.
    ignored
        Classes whose objects stay, and keep nothing else from going.

    Attributes
    ----------
    ids
        What goes, including links with only one end in it.
    """

    def __init__(
        self,
        connection: sa.Connection,
        options: ChildOptions,
        allowed: Allowed,
        free: frozenset[str] = frozenset(),
        ignored: Iterable[str] = (),
    ):
        self.connection, self.options, self.allowed, self.free = connection, options, allowed, free
        self.ignored = list(ignored)
        self.schema = schema()
        self.ids: Ids = {}
        self._fresh: list[tuple[str, set[int]]] = []
        self._candidates: Ids = {}

    def add(self, entity: Entity, ids: Iterable[int]) -> None:
        """Add objects, without what goes along with them."""
        known = self.ids.setdefault(entity.root.name, set())
        fresh = set(ids) - known
        if fresh:
            known |= fresh
            self._fresh.append((entity.root.name, fresh))

    def grow(self) -> None:
        """Add everything that goes along."""
        while self._fresh:
            while self._fresh:
                self._add_neighbors(*self._fresh.pop())
            self._adopt()

    def _add_neighbors(self, name: str, fresh: set[int]) -> None:
        for how, entity, ids in neighbors(self.connection, name, fresh):
            if self.ignored:
                ids = of_class(self.connection, entity, ids, self._is_ignored)
            if how == "had":
                self._candidates.setdefault(entity.name, set()).update(ids)
            else:
                self.add(entity, ids)

    def _is_ignored(self, entity: Entity) -> bool:
        return is_one_of(entity, self.ignored)

    def _adopt(self) -> None:
        """Add the candidates that no other object owns, and those that the options name."""
        for name, candidates in self._candidates.items():
            entity = self.schema[name]
            left = candidates - self.ids.get(name, set())
            if not left:
                continue
            verdicts = self._verdicts(entity, left)
            undecided = {oid for oid, verdict in verdicts.items() if verdict is None}
            free = undecided - self._held_elsewhere(entity, undecided)
            wanted = self.suitable(entity, free, {oid for oid, verdict in verdicts.items() if verdict})
            self.add(entity, wanted - self._in_split_filesets(wanted) if name == "Image" else wanted)

    def suitable(self, entity: Entity, free: set[int], included: set[int]) -> set[int]:
        """Of the candidates that no other object owns, and of those that the options include, those that may go."""
        return free | included

    def _in_split_filesets(self, images: set[int]) -> set[int]:
        """Those of some images whose fileset has others that do not go: a fileset goes whole, or stays."""
        columns = self.schema["Image"].table.c
        going = images | self.ids.get("Image", set())
        filesets = sa.select(columns.fileset).where(rows.among(columns.id, images), columns.fileset.is_not(None))
        found = (
            self.connection.execute(sa.select(columns.id, columns.fileset).where(columns.fileset.in_(filesets)))
            .tuples()
            .all()
        )
        split = {fileset for oid, fileset in found if oid not in going}
        return {oid for oid, fileset in found if fileset in split}

    def _verdicts(self, entity: Entity, ids: set[int]) -> dict[int, bool | None]:
        """Decide by the options about each candidate. Those that the user may not touch stay."""
        columns = entity.table.c
        kind = columns["class"] if "class" in columns else sa.literal(entity.name)
        namespace = columns.ns if entity.name == "Annotation" else sa.null()
        found = self.connection.execute(
            sa.select(columns.id, kind, namespace, columns._owner, columns._group).where(rows.among(columns.id, ids))
        )
        return {
            oid: self.options.decide(self.schema[kind], ns)
            if kind in self.free or self.allowed(owner, group, entity.name)
            else False
            for oid, kind, ns, owner, group in found
        }

    def _held_elsewhere(self, entity: Entity, ids: set[int]) -> set[int]:
        """Select the objects that are also owned by one that stays."""
        held: set[int] = set()
        for other, one, found in referring(self.connection, entity.name, ids):
            if (
                other.is_global
                or is_part(other, one)
                or (other.name, one.name) in HAD_BY_TARGET
                or (other.is_link and one.name == near_end(other))
                or self._is_ignored(other)
            ):
                continue
            going = self.ids.get(other.root.name, set())
            held |= {target for holder, target in found.items() if holder not in going}
        for name, reference in HAD_BY_TARGET:
            if entity.name == name:
                held |= self._in_what_stays(entity, entity.fields[reference], ids)
        return held

    def _in_what_stays(self, entity: Entity, one: Field, ids: set[int]) -> set[int]:
        """Select the objects that refer by a field to one that stays."""
        columns = entity.table.c
        found = self.connection.execute(
            sa.select(columns.id, columns[one.name]).where(rows.among(columns.id, ids), columns[one.name].is_not(None))
        )
        going = self.ids.get(self.schema[one.target or ""].root.name, set())
        return {oid for oid, target in found if target not in going}

    def split_filesets(self) -> set[int]:
        """Find the filesets of which some images go and some stay."""
        return self._candidates.get("Fileset", set()) - self.ids.get("Fileset", set())

    def outsiders(self) -> Iterable[tuple[Entity, Field, set[int]]]:
        """Find everything that stays and refers to something that goes."""
        for name, ids in [(name, ids) for name, ids in self.ids.items() if ids]:
            for other, one, found in referring(self.connection, name, ids):
                if left := set(found) - self.ids.get(other.root.name, set()):
                    yield other, one, left
