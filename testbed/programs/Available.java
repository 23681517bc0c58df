import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.zip.Adler32;

/** Accepts connections on a port of 127.0.0.1, and of each reads this many bytes, as many at a time as available() tells. */
public class Available {
    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[0]);
        int wanted = Integer.parseInt(arguments[1]);
        int times = Integer.parseInt(arguments[2]);
        try (ServerSocket listener = new ServerSocket(port, 5, InetAddress.getByName("127.0.0.1"))) {
            for (int time = 0; time < times; time++) {
                try (Socket socket = listener.accept()) {
                    Adler32 sum = new Adler32();
                    for (int read = 0; read < wanted;) {
                        int there = socket.getInputStream().available();
                        if (there == 0) {
                            Thread.sleep(5);
                        } else {
                            byte[] bytes = socket.getInputStream().readNBytes(there);
                            sum.update(bytes);
                            read += bytes.length;
                        }
                    }
                    socket.getOutputStream().write(Long.toString(sum.getValue()).getBytes());
                }
            }
        }
    }
}
