// One byte there and back over TCP, again and again.
//   round_trips serve PORT          answer on 127.0.0.1, one connection after another
//   round_trips ADDRESS PORT COUNT  make so many round trips
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void check(int succeeded, const char *what)
{
	if (!succeeded) {
		perror(what);
		exit(1);
	}
}

static void at_once(int connection)
{
	int on = 1;

	check(setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0, "TCP_NODELAY");
}

static void serve(int listener, struct sockaddr_in *address)
{
	int on = 1;
	char byte;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	check(bind(listener, (struct sockaddr *)address, sizeof(*address)) == 0, "bind");
	check(listen(listener, 16) == 0, "listen");
	for (;;) {
		int connection = accept(listener, NULL, NULL);

		check(connection >= 0, "accept");
		at_once(connection);
		while (read(connection, &byte, 1) == 1 && write(connection, &byte, 1) == 1)
			;
		close(connection);
	}
}

int main(int count, char **words)
{
	int serving = count == 3 && strcmp(words[1], "serve") == 0;
	struct sockaddr_in address = {.sin_family = AF_INET};
	int connection = socket(AF_INET, SOCK_STREAM, 0);

	if (!serving && count != 4) {
		fprintf(stderr, "usage: round_trips serve PORT | ADDRESS PORT COUNT\n");
		return 2;
	}
	check(connection >= 0, "socket");
	address.sin_port = htons(atoi(words[2]));
	if (serving) {
		address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		serve(connection, &address);
	}
	check(inet_pton(AF_INET, words[1], &address.sin_addr) == 1, "address");
	check(connect(connection, (struct sockaddr *)&address, sizeof(address)) == 0, "connect");
	at_once(connection);
	for (long left = atol(words[3]); left > 0; left--) {
		char sent = 'a' + left % 26, back = 0;

		check(write(connection, &sent, 1) == 1, "write");
		check(read(connection, &back, 1) == 1 && back == sent, "read");
	}
	return 0;
}
