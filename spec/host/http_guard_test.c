/* The address guard: one case per range and per disguise. */
#include "test.h"

#include "http/http_guard.h"

static void refuse(const char *address)
{
    if (http_guard_is_public_text(address)) {
        fprintf(stderr, "%s counts as public\n", address);
    }
    CHECK(!http_guard_is_public_text(address));
}

static void allow(const char *address)
{
    if (!http_guard_is_public_text(address)) {
        fprintf(stderr, "%s counts as not public\n", address);
    }
    CHECK(http_guard_is_public_text(address));
}

TEST(ipv4)
{
    static const char *const closed[] = {
        "0.0.0.0",         "0.1.2.3",         "10.0.0.0",    "10.255.255.255",  "100.64.0.0",
        "100.100.100.200", "100.127.255.255", "127.0.0.1",   "127.255.255.255", "168.63.129.16",
        "169.254.0.1",     "169.254.169.254", "172.16.0.0",  "172.31.255.255",  "192.0.0.192",
        "192.0.2.1",       "192.88.99.1",     "192.168.0.0", "192.168.255.255", "198.18.0.1",
        "198.19.255.255",  "198.51.100.7",    "203.0.113.7", "224.0.0.1",       "239.255.255.255",
        "240.0.0.1",       "255.255.255.255",
    };
    static const char *const open[] = {
        "1.1.1.1",         "9.255.255.255",  "11.0.0.0",      "100.63.255.255",  "100.128.0.0",
        "126.255.255.255", "128.0.0.1",      "168.63.129.15", "168.63.129.17",   "169.253.255.255",
        "169.255.0.0",     "172.15.255.255", "172.32.0.0",    "192.0.1.0",       "192.167.255.255",
        "192.169.0.0",     "198.17.255.255", "198.20.0.0",    "223.255.255.255",
    };
    for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++) {
        refuse(closed[i]);
    }
    for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++) {
        allow(open[i]);
    }
}

TEST(ipv6)
{
    static const char *const closed[] = {
        "::",      "::1",    "::7f00:1", "fc00::1",     "fd00:ec2::254", "fe80::1",      "febf::1", "fec0::1",
        "ff02::1", "100::1", "2001::1",  "2001:db8::1", "3fff::1",       "64:ff9b:1::1", "4000::1", "e000::1",
    };
    for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++) {
        refuse(closed[i]);
    }
    allow("2606:4700:4700::1111");
    allow("2001:4860:4860::8888");
    allow("2a00:1450::1");
    allow("3ffe::1");
}

TEST(ipv4_inside_ipv6)
{
    refuse("::ffff:127.0.0.1");
    refuse("::ffff:10.0.0.1");
    refuse("::ffff:169.254.169.254");
    refuse("64:ff9b::7f00:1");
    refuse("64:ff9b::a00:1");
    refuse("2002:7f00:1::");
    refuse("2002:a00:1::1");
    allow("::ffff:1.1.1.1");
    allow("64:ff9b::101:101");
    allow("2002:101:101::1");
}

TEST(text_that_is_no_address)
{
    refuse("");
    refuse("example.org");
    refuse("1.1.1");
    refuse("1.1.1.1:80");
    refuse("[2a00::1]");
}

TEST(other_families)
{
    struct sockaddr address = {.sa_family = AF_UNIX};
    CHECK(!http_guard_is_public(&address));
}

int main(void)
{
    RUN(ipv4);
    RUN(ipv6);
    RUN(ipv4_inside_ipv6);
    RUN(text_that_is_no_address);
    RUN(other_families);
    return 0;
}
