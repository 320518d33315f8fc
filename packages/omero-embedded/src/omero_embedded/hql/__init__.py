"""HQL, the query language of IQuery: text -> syntax tree -> SQL."""
