# SPDX-License-Identifier: Apache-2.0 OR MIT
"""HTTP as programs with asyncio speak it, whose sockets wait in level-triggered epoll.

talk.py serve ADDRESS PORT        answers POST /SIZE by SIZE bytes, and by the digest of what was sent
talk.py ask ADDRESS PORT SIZE...  asks for each size by a body of that size, one after the other on one connection
"""
import asyncio
import hashlib
import sys

PATIENCE = 20


def pattern(size):
    return bytes((at * 7 + size) % 251 for at in range(size))


async def message(reader):
    """The first line, the headers and the body of what comes next; nothing at the end."""
    first = await reader.readline()
    headers = {}
    while first and (line := await reader.readline()).strip():
        name, _, value = line.decode().partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return first.decode(), headers, body


async def attend(reader, writer):
    print("connection", flush=True)
    while True:
        first, _, body = await message(reader)
        if not first:
            break
        size = int(first.split()[1].rsplit("/", 1)[1])
        digest = hashlib.sha256(body).hexdigest()
        writer.write(f"HTTP/1.1 200 OK\r\nDigest: {digest}\r\nContent-Length: {size}\r\n\r\n".encode())
        writer.write(pattern(size))
        await writer.drain()
    writer.close()


async def serve(address, port):
    server = await asyncio.start_server(attend, address, int(port))
    await server.serve_forever()


async def ask(address, port, *sizes):
    reader, writer = await asyncio.open_connection(address, int(port))
    right = 0
    for size in map(int, sizes):
        sent = pattern(size)
        writer.write(f"POST /{size} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {size}\r\n\r\n".encode())
        writer.write(sent)
        await writer.drain()
        _, headers, got = await asyncio.wait_for(message(reader), PATIENCE)
        right += headers.get("digest") == hashlib.sha256(sent).hexdigest() and got == pattern(size)
    writer.close()
    print("right", right)


asyncio.run({"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:]))
