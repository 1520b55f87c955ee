/* Redis URLs: what is understood, what is refused with which words, and that no password is ever told. */
#include "test.h"

#ifdef MACP_WITH_REDIS
#include "redis/redis_url.h"

static struct redis_url parse(const char *text)
{
    struct redis_url url;
    struct err err = {0};
    if (redis_url_parse(&url, text, &err) != 0) {
        fprintf(stderr, "%s: %s\n", text, err.text);
        exit(1);
    }
    return url;
}

static void refuse(const char *text, const char *words)
{
    struct redis_url url;
    struct err err = {0};
    CHECK_INT(redis_url_parse(&url, text, &err), ERR_INVALID);
    if (strstr(err.text, words) == NULL || strstr(err.text, "s3cret") != NULL) {
        fprintf(stderr, "%s: %s\n", text, err.text);
        exit(1);
    }
    CHECK(url.password == NULL && url.host == NULL);
}

TEST(an_address_has_defaults)
{
    struct redis_url url = parse("redis://cache.example");
    CHECK_STR(url.host, "cache.example");
    CHECK_INT(url.port, 6379);
    CHECK_INT(url.db, 0);
    CHECK(url.user == NULL && url.password == NULL && url.path == NULL);
    CHECK_STR(url.shown, "redis://cache.example:6379/0");
    redis_url_deinit(&url);
    url = parse("redis://[::1]:7000/12");
    CHECK_STR(url.host, "::1");
    CHECK_INT(url.port, 7000);
    CHECK_INT(url.db, 12);
    CHECK_STR(url.shown, "redis://[::1]:7000/12");
    redis_url_deinit(&url);
}

TEST(user_and_password_are_decoded_and_not_shown)
{
    struct redis_url url = parse("redis://ann:s3cret%40%2f:x@host:1/2");
    CHECK_STR(url.user, "ann");
    CHECK_STR(url.password, "s3cret@/:x");
    CHECK_STR(url.host, "host");
    CHECK_STR(url.shown, "redis://host:1/2");
    redis_url_deinit(&url);
    url = parse("redis://:s3cret@host/");
    CHECK(url.user == NULL);
    CHECK_STR(url.password, "s3cret");
    redis_url_deinit(&url);
}

TEST(tls_has_files)
{
    struct redis_url url = parse("rediss://ann:s3cret@cache.example:7000/3?ca=/etc/a%26b.pem&cert=c&key=k");
    CHECK(url.has_tls);
    CHECK_STR(url.host, "cache.example");
    CHECK_INT(url.port, 7000);
    CHECK_INT(url.db, 3);
    CHECK_STR(url.ca, "/etc/a&b.pem");
    CHECK_STR(url.cert, "c");
    CHECK_STR(url.key, "k");
    CHECK_STR(url.password, "s3cret");
    CHECK_STR(url.shown, "rediss://cache.example:7000/3");
    redis_url_deinit(&url);
    url = parse("rediss://[::1]");
    CHECK(url.has_tls && url.ca == NULL && url.cert == NULL && url.key == NULL);
    CHECK_STR(url.shown, "rediss://[::1]:6379/0");
    redis_url_deinit(&url);
}

TEST(a_unix_socket_has_a_path_and_may_name_a_database)
{
    struct redis_url url = parse("unix:///run/redis%20two/s.sock?db=3");
    CHECK_STR(url.path, "/run/redis two/s.sock");
    CHECK_INT(url.db, 3);
    CHECK(url.host == NULL);
    CHECK_STR(url.shown, "unix:///run/redis two/s.sock?db=3");
    redis_url_deinit(&url);
    url = parse("unix://ann:s3cret@/s");
    CHECK_STR(url.path, "/s");
    CHECK_STR(url.password, "s3cret");
    redis_url_deinit(&url);
}

TEST(everything_else_is_refused_with_what_was_expected)
{
    refuse("http://host", "unknown scheme: redis://[user:password@]host[:port][/db], "
                          "rediss://...[?ca=FILE][&cert=FILE&key=FILE] or unix:///path[?db=N] expected");
    refuse("rediss://:s3cret@host?ssl=1", "unknown part `ssl=1`");
    refuse("rediss://:s3cret@host/0?", "unknown part ``");
    refuse("rediss://:s3cret@host?ca=", "`ca=` of the Redis URL: the path of a file expected");
    refuse("rediss://:s3cret@host?ca=%4", "`ca=` of the Redis URL: the path of a file expected");
    refuse("rediss://:s3cret@host?ca=a&ca=b", "names `ca=` twice");
    refuse("rediss://:s3cret@host?cert=a", "names `cert=` without `key=`: they go together");
    refuse("rediss://:s3cret@host?ca=a&key=b", "names `key=` without `cert=`: they go together");
    refuse("rediss://:s3cret@host/x?ca=a", "database `x`");
    refuse("redis://host/1?ca=a", "unknown part `?ca=a`");
    refuse("", "unknown scheme");
    refuse("redis://", "names no host");
    refuse("redis://:s3cret@", "names no host");
    refuse("redis://ann@host", "needs user:password or :password");
    refuse("redis://ann:@host", "needs user:password or :password");
    refuse("redis://ann:s3cret%4@host", "user or password of the Redis URL: %XX");
    refuse("redis://ann:s3cret%00@host", "user or password of the Redis URL: %XX");
    refuse("redis://host:0", "port of the Redis URL: a number from 1 to 65535");
    refuse("redis://host:65536", "port of the Redis URL: a number from 1 to 65535");
    refuse("redis://host:", "port of the Redis URL");
    refuse("redis://host:1x", "port of the Redis URL");
    refuse("redis://[::1", "`]` is missing");
    refuse("redis://[::1]x", "port of the Redis URL");
    refuse("redis://host/one", "database `one` of the Redis URL: a number from 0 to 65535");
    refuse("redis://host/1/2", "database `1/2`");
    refuse("redis://host?db=1", "unknown part `?db=1`");
    refuse("unix://relative/path", "an absolute path expected");
    refuse("unix://", "an absolute path expected");
    refuse("unix:///s?database=1", "unknown part `?database=1`");
    refuse("unix:///s%zz", "path of the Redis URL: %XX");
}

int main(void)
{
    RUN(an_address_has_defaults);
    RUN(user_and_password_are_decoded_and_not_shown);
    RUN(tls_has_files);
    RUN(a_unix_socket_has_a_path_and_may_name_a_database);
    RUN(everything_else_is_refused_with_what_was_expected);
    return 0;
}
#else
int main(void)
{
    puts("built without Redis: nothing to test");
    return 0;
}
#endif
