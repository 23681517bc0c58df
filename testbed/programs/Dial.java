// SPDX-License-Identifier: Apache-2.0 OR MIT
// A client as programs on a JVM are: its sockets are of IPv6 and dial v4-mapped addresses, unless it is told not to.
// Arguments are MANNER ADDRESS PORT, again and again; it prints what it hears, a line for each.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.DatagramPacket;
import java.net.DatagramSocket;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;

public class Dial {
    private static final int PATIENCE = 5000;

    public static void main(String[] arguments) throws Exception {
        for (int at = 0; at < arguments.length; at += 3) {
            InetSocketAddress target = new InetSocketAddress(arguments[at + 1], Integer.parseInt(arguments[at + 2]));
            System.out.println(switch (arguments[at]) {
                case "socket" -> socket(target);
                case "channel" -> channel(target);
                case "datagram" -> datagram(target, false);
                case "connected" -> datagram(target, true);
                default -> throw new IllegalArgumentException(arguments[at]);
            });
        }
    }

    private static String socket(InetSocketAddress target) throws Exception {
        try (Socket socket = new Socket()) {
            socket.connect(target, PATIENCE);
            socket.setSoTimeout(PATIENCE);
            return new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8)).readLine();
        }
    }

    // As event loops do: nothing blocks.
    private static String channel(InetSocketAddress target) throws Exception {
        try (SocketChannel channel = SocketChannel.open(); Selector selector = Selector.open()) {
            channel.configureBlocking(false);
            channel.connect(target);
            SelectionKey key = channel.register(selector, SelectionKey.OP_CONNECT);
            ByteBuffer heard = ByteBuffer.allocate(4096);
            while (selector.select(PATIENCE) > 0) {
                selector.selectedKeys().clear();
                if (key.isConnectable() && channel.finishConnect()) {
                    key.interestOps(SelectionKey.OP_READ);
                } else if (key.isReadable() && (channel.read(heard) < 0 || heard.get(heard.position() - 1) == '\n')) {
                    break;
                }
            }
            return new String(heard.array(), 0, heard.position(), StandardCharsets.UTF_8).trim();
        }
    }

    private static String datagram(InetSocketAddress target, boolean connects) throws Exception {
        try (DatagramSocket socket = new DatagramSocket()) {
            socket.setSoTimeout(PATIENCE);
            if (connects) {
                socket.connect(target);
            }
            byte[] question = "who?".getBytes(StandardCharsets.UTF_8);
            socket.send(new DatagramPacket(question, question.length, target));
            DatagramPacket answer = new DatagramPacket(new byte[4096], 4096);
            socket.receive(answer);
            if (!answer.getSocketAddress().equals(target)) {
                throw new IllegalStateException(target + " was asked, " + answer.getSocketAddress() + " answered");
            }
            return new String(answer.getData(), 0, answer.getLength(), StandardCharsets.UTF_8);
        }
    }
}
