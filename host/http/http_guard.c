/* The address guard; see http_guard.h. IPv4: everything but the ranges below. IPv6: only 2000::/3 without its
 * special ranges; forms that carry an IPv4 address are judged by that address. */
#include "http/http_guard.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

static const struct {
    uint32_t base;
    int bits;
} closed_v4[] = {
    {0x00000000, 8},  /* this network, unspecified */
    {0x0a000000, 8},  /* private */
    {0x64400000, 10}, /* carrier-grade NAT; some metadata services */
    {0x7f000000, 8},  /* loopback */
    {0xa83f8110, 32}, /* 168.63.129.16: a cloud's host channel on a public address */
    {0xa9fe0000, 16}, /* link-local; most metadata services */
    {0xac100000, 12}, /* private */
    {0xc0000000, 24}, /* protocol assignments */
    {0xc0000200, 24}, /* documentation */
    {0xc0586300, 24}, /* 6to4 relays */
    {0xc0a80000, 16}, /* private */
    {0xc6120000, 15}, /* benchmarks */
    {0xc6336400, 24}, /* documentation */
    {0xcb007100, 24}, /* documentation */
    {0xe0000000, 4},  /* multicast */
    {0xf0000000, 4},  /* reserved, broadcast */
};

static bool is_public_v4(uint32_t address)
{
    for (size_t i = 0; i < sizeof(closed_v4) / sizeof(closed_v4[0]); i++) {
        if ((address ^ closed_v4[i].base) >> (32 - closed_v4[i].bits) == 0) {
            return false;
        }
    }
    return true;
}

static uint32_t v4_at(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static bool is_public_v6(const uint8_t *a)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};
    if (memcmp(a, mapped, 12) == 0 || memcmp(a, nat64, 12) == 0) {
        return is_public_v4(v4_at(a + 12));
    }
    if ((a[0] & 0xe0) != 0x20) {
        return false; /* unspecified, loopback, fc00::/7, fe80::/10, ff00::/8 and whatever is not assigned */
    }
    if (a[0] == 0x20 && a[1] == 0x02) {
        return is_public_v4(v4_at(a + 2)); /* 6to4 */
    }
    if (a[0] == 0x20 && a[1] == 0x01 && (a[2] & 0xfe) == 0) {
        return false; /* 2001::/23: Teredo, ORCHID, benchmarks */
    }
    if (a[0] == 0x20 && a[1] == 0x01 && a[2] == 0x0d && a[3] == 0xb8) {
        return false; /* documentation */
    }
    return !(a[0] == 0x3f && a[1] == 0xff && (a[2] & 0xf0) == 0); /* documentation */
}

bool http_guard_is_public(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        return is_public_v4(ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        return is_public_v6(((const struct sockaddr_in6 *)address)->sin6_addr.s6_addr);
    }
    return false;
}

bool http_guard_is_address_text(const char *text)
{
    struct in6_addr address; /* large enough for both */
    return inet_pton(AF_INET, text, &address) == 1 || inet_pton(AF_INET6, text, &address) == 1;
}

bool http_guard_is_public_text(const char *address)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, address, &v4.sin_addr) == 1) {
        return http_guard_is_public((struct sockaddr *)&v4);
    }
    return inet_pton(AF_INET6, address, &v6.sin6_addr) == 1 && http_guard_is_public((struct sockaddr *)&v6);
}
