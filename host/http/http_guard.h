/* Which network addresses may be reached on behalf of strangers. Thread-safe. */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

/* true for addresses of the public Internet: not loopback, private, shared, link-local, unique-local,
 * multicast, reserved, documentation or metadata addresses, and no IPv6 form of such an IPv4 address. */
bool http_guard_is_public(const struct sockaddr *address);

/* The same for text such as "10.0.0.1" or "fe80::1"; false for anything that is not an address. */
bool http_guard_is_public_text(const char *address);

/* true for text that is an address at all. */
bool http_guard_is_address_text(const char *text);
