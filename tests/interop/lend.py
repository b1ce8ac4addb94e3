"""Makes sockets in whatever network namespace it is started in, and lends them to whoever asks over a Unix
socket, until that is closed: a socket stays in its namespace whoever uses it."""

import os
import socket
import sys

KINDS = {"stream": socket.SOCK_STREAM, "datagram": socket.SOCK_DGRAM}

with socket.socket(fileno=int(sys.argv[1])) as channel:
    channel.send(str(os.getpid()).encode())
    while asked := channel.recv(100).decode():
        kind, address, port = asked.split()
        with socket.socket(type=KINDS[kind]) as lent:
            lent.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            lent.bind((address, int(port)))
            if kind == "stream":
                lent.listen()
            socket.send_fds(channel, [b"."], [lent.fileno()])
