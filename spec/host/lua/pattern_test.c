/* The matcher without Lua around it: steps, depth, malformed patterns. That it agrees with Lua's
 * own is tested in spec/unit/host/isolate_string_spec.lua. */
#include "lua/pattern.h"

#include <string.h>

#include "test.h"

static struct pattern prepare(const char *subject, const char *text, long steps)
{
    return (struct pattern){
        .subject = subject,
        .subject_end = subject + strlen(subject),
        .text = text,
        .text_end = text + strlen(text),
        .steps_left = steps,
    };
}

static const char *match(const char *subject, const char *text)
{
    static struct pattern m;
    m = prepare(subject, text, 100000);
    const char *end = pattern_match_at(&m, m.subject);
    return m.error != NULL ? m.error : end == NULL ? NULL : "matches";
}

TEST(matches_at_one_place)
{
    CHECK_STR(match("abc", "a.c"), "matches");
    CHECK(match("abc", "b") == NULL);
    CHECK_STR(match("aXa", "(a)X%1"), "matches");
    CHECK_STR(match("((x))", "%b()$"), "matches");
    CHECK_STR(match("]", "[]]"), "matches");
    CHECK_STR(match("-", "[a-]"), "matches");
    CHECK_STR(match("", ".-$"), "matches");
}

TEST(names_what_is_malformed)
{
    CHECK_STR(match("a", "%"), "malformed pattern (ends with '%')");
    CHECK_STR(match("a", "[a"), "malformed pattern (missing ']')");
    CHECK_STR(match("a", "[^"), "malformed pattern (missing ']')");
    CHECK_STR(match("a", "a)"), "invalid pattern capture");
    CHECK_STR(match("a", "%1"), "invalid capture index");
    CHECK_STR(match("a", "(%1)"), "invalid capture index");
    CHECK_STR(match("a", "%b"), "malformed pattern (missing arguments to '%b')");
    CHECK_STR(match("a", "%fx"), "missing '[' after '%f' in pattern");
}

TEST(stops_when_the_steps_are_used_up)
{
    struct pattern m = prepare("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a*a*a*a*a*a*a*a*b", 10000);
    CHECK(pattern_match_at(&m, m.subject) == NULL);
    CHECK(m.out_of_steps);
    CHECK(m.steps_left < 0);
}

TEST(limits_recursion)
{
    char text[601];
    for (int i = 0; i < 600; i += 2) {
        memcpy(text + i, "a?", 2);
    }
    text[600] = '\0';
    char subject[301];
    memset(subject, 'a', 300);
    subject[300] = '\0';
    CHECK_STR(match(subject, text), "pattern too complex");
}

TEST(knows_plain_text)
{
    CHECK(pattern_is_plain("a b c", 5));
    CHECK(pattern_is_plain("a\0b", 3));
    CHECK(!pattern_is_plain("a.b", 3));
    CHECK(!pattern_is_plain("a\0%", 3));
}

int main(void)
{
    RUN(matches_at_one_place);
    RUN(names_what_is_malformed);
    RUN(stops_when_the_steps_are_used_up);
    RUN(limits_recursion);
    RUN(knows_plain_text);
    return 0;
}
