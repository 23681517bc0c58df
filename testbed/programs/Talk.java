// SPDX-License-Identifier: Apache-2.0 OR MIT
// HTTP as programs on a JVM speak it, whose sockets are of IPv6.
//
//   java Talk serve ADDRESS PORT       answers POST /SIZE by SIZE bytes, and by the digest of what was sent
//   java Talk ask ADDRESS PORT SIZE... asks for each size by a body of that size, one after the other on one connection

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.Set;

public class Talk {
    private static final Duration PATIENCE = Duration.ofSeconds(20);
    private static final Set<Integer> CLIENTS = new HashSet<>();

    public static void main(String[] arguments) throws Exception {
        InetSocketAddress address = new InetSocketAddress(arguments[1], Integer.parseInt(arguments[2]));
        if (arguments[0].equals("serve")) {
            HttpServer server = HttpServer.create(address, 0);
            server.createContext("/", Talk::answer);
            server.start();
        } else {
            System.out.println("right " + ask(address, Arrays.copyOfRange(arguments, 3, arguments.length)));
        }
    }

    private static byte[] pattern(int size) {
        byte[] body = new byte[size];
        for (int at = 0; at < size; at++) {
            body[at] = (byte) ((at * 7L + size) % 251);
        }
        return body;
    }

    private static String digest(byte[] body) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(body));
        } catch (java.security.NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    private static void answer(HttpExchange exchange) throws IOException {
        if (CLIENTS.add(exchange.getRemoteAddress().getPort())) {
            System.out.println("connection");
        }
        byte[] body = exchange.getRequestBody().readAllBytes();
        int size = Integer.parseInt(exchange.getRequestURI().getPath().substring(1));
        exchange.getResponseHeaders().set("Digest", digest(body));
        exchange.sendResponseHeaders(200, size);
        exchange.getResponseBody().write(pattern(size));
        exchange.close();
    }

    private static int ask(InetSocketAddress address, String[] sizes) throws Exception {
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(PATIENCE).build();
        int right = 0;
        for (String word : sizes) {
            int size = Integer.parseInt(word);
            byte[] sent = pattern(size);
            URI uri = URI.create("http://" + address.getAddress().getHostAddress() + ":" + address.getPort() + "/" + word);
            HttpRequest request = HttpRequest.newBuilder(uri).timeout(PATIENCE)
                .POST(HttpRequest.BodyPublishers.ofByteArray(sent)).build();
            HttpResponse<byte[]> answer = client.send(request, HttpResponse.BodyHandlers.ofByteArray());
            boolean same = answer.headers().firstValue("Digest").orElse("").equals(digest(sent));
            if (same && Arrays.equals(answer.body(), pattern(size))) {
                right++;
            }
        }
        return right;
    }
}
