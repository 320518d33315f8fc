import Ice.*;
import java.lang.Exception;
import java.lang.Object;
import java.util.*;

/**
 * Logs in as OMERO's Java client does, and prints row, column and pixels of each site of a plate.
 *
 * Arguments: host, port, user, plate; the password is the first line of the input. OMERO's own Java classes are not
 * needed: calls are written as Ice has them on the wire.
 */
public class ReadPlate {
    /** The operations that Slice calls idempotent; Ice wants to be told. */
    static final List<String> IDEMPOTENT = Arrays.asList("projection", "getPlane");

    static Communicator ice;

    interface Arguments {
        void write(OutputStream out);
    }

    /** An RInt or RLong. */
    static class Number extends ObjectImpl {
        final boolean isLong;
        long value;

        Number(boolean isLong) {
            this.isLong = isLong;
        }

        @Override
        protected void __readImpl(IceInternal.BasicStream in) {
            in.startReadSlice();
            value = isLong ? in.readLong() : in.readInt();
            in.endReadSlice();
            in.startReadSlice(); // RType has no members
            in.endReadSlice();
        }
    }

    public static void main(String[] args) throws Exception {
        InitializationData settings = new InitializationData();
        settings.properties = Util.createProperties();
        settings.properties.setProperty("Ice.Plugin.IceSSL", "IceSSL.PluginFactory");
        settings.properties.setProperty("IceSSL.VerifyPeer", "0");
        settings.properties.setProperty(
                "Ice.Default.Router", "OMERO.Glacier2/router:ssl -h " + args[0] + " -p " + args[1]);
        ice = Util.initialize(settings);
        try {
            String password = new Scanner(System.in).nextLine();
            Glacier2.RouterPrx router = Glacier2.RouterPrxHelper.checkedCast(ice.getDefaultRouter());
            ObjectPrx session = logIn(router, args[2], password);
            List<List<Number>> sites = sites(session, Long.parseLong(args[3]));
            ObjectPrx store = call(session, "createRawPixelsStore", out -> {}).readProxy();
            for (List<Number> site : sites) {
                System.out.println(site.get(0).value + " " + site.get(1).value + " " + plane(store, site.get(2).value));
            }
            call(store, "close", out -> {});
            router.destroySession();
        } finally {
            ice.destroy();
        }
    }

    /** Logs in, and registers a callback, as omero.client does. */
    static ObjectPrx logIn(Glacier2.RouterPrx router, String user, String password) throws Exception {
        Map<String, String> context = new HashMap<>();
        context.put("omero.client.uuid", UUID.randomUUID().toString());
        ObjectPrx session = router.createSession(user, password, context);
        ObjectAdapter adapter = ice.createObjectAdapterWithRouter("omero.ClientCallback", router);
        adapter.activate();
        Blobject silent = new Blobject() {
            public boolean ice_invoke(byte[] in, ByteSeqHolder out, Current current) {
                return true;
            }
        };
        ObjectPrx callback = adapter.add(silent, new Identity("ClientCallback", router.getCategoryForClient()));
        call(session, "setCallback", out -> out.writeProxy(callback));
        return session;
    }

    /** Row, column and id of the pixels of each site of a plate, in this order. */
    static List<List<Number>> sites(ObjectPrx session, long plate) {
        ice.addObjectFactory(factory(false), "::omero::RInt");
        ice.addObjectFactory(factory(true), "::omero::RLong");
        ObjectPrx query = call(session, "getQueryService", out -> {}).readProxy();
        InputStream in = call(query, "projection", out -> {
            out.writeString("select w.row, w.column, p.id from Well w join w.wellSamples ws join ws.image.pixels p "
                    + "where w.plate.id = " + plate + " order by w.row, w.column, ws.id");
            out.writeObject(null); // no parameters
            out.writePendingObjects();
        });
        List<List<Number>> rows = new ArrayList<>();
        for (int left = in.readSize(); left > 0; left--) {
            List<Number> row = new ArrayList<>();
            rows.add(row);
            for (int cells = in.readSize(); cells > 0; cells--) {
                in.readObject(cell -> row.add((Number) cell));
            }
        }
        in.readPendingObjects();
        return rows;
    }

    static ObjectFactory factory(boolean isLong) {
        return new ObjectFactory() {
            public Ice.Object create(String type) {
                return new Number(isLong);
            }

            public void destroy() {}
        };
    }

    /** The first plane of pixels, in hexadecimal digits. */
    static String plane(ObjectPrx store, long pixels) {
        call(store, "setPixelsId", out -> {
            out.writeLong(pixels);
            out.writeBool(false);
        });
        byte[] plane = call(store, "getPlane", out -> {
            for (int place = 0; place < 3; place++) {
                out.writeInt(0);
            }
        }).readByteSeq();
        StringBuilder digits = new StringBuilder();
        for (byte one : plane) {
            digits.append(String.format("%02x", one));
        }
        return digits.toString();
    }

    /** Calls an operation, and returns its answer. */
    static InputStream call(ObjectPrx proxy, String operation, Arguments arguments) {
        OutputStream out = Util.createOutputStream(ice);
        out.startEncapsulation();
        arguments.write(out);
        out.endEncapsulation();
        ByteSeqHolder answer = new ByteSeqHolder();
        OperationMode mode = IDEMPOTENT.contains(operation) ? OperationMode.Idempotent : OperationMode.Normal;
        if (!proxy.ice_invoke(operation, mode, out.finished(), answer)) {
            throw new IllegalStateException("OMERO refused " + operation);
        }
        InputStream in = Util.createInputStream(ice, answer.value);
        in.startEncapsulation();
        return in;
    }
}
