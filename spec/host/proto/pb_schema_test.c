/* Pools from field lists: look-up by number, names, refusals. Descriptor sets are tested in
 * spec/unit/host/proto_spec.lua. */
#include "proto/pb_schema.h"

#include <string.h>

#include "test.h"

TEST(finds_fields_by_number)
{
    struct pb_field_spec specs[] = {
        {.name = "far", .number = 536870911, .type = "string"},
        {.name = "edge", .number = 64, .type = "bool"},
        {.name = "last_direct", .number = 63, .type = "bool"},
        {.name = "first", .number = 1, .type = "double"},
        {.name = "some_map", .number = 100, .type = "int64", .is_map = true},
        {.name = "many", .number = 101, .type = "sint32", .is_repeated = true},
    };
    struct err err;
    struct pb_pool *pool = pb_pool_from_fields("test.M", specs, 6, &err);
    CHECK(pool != NULL);
    const struct pb_message *message = pb_pool_find(pool, "test.M");
    CHECK(message != NULL && message->count == 6);
    CHECK(pb_pool_find(pool, "test.N") == NULL);
    CHECK(pb_pool_find(pool, "test.M.some_mapEntry")->is_map_entry);
    for (size_t i = 0; i < 6; i++) {
        const struct pb_field *field = pb_message_field(message, specs[i].number);
        CHECK_STR(field->name, specs[i].name);
    }
    CHECK(pb_message_field(message, 0) == NULL);
    CHECK(pb_message_field(message, 2) == NULL);
    CHECK(pb_message_field(message, 65) == NULL);
    CHECK(pb_message_field(message, UINT32_MAX) == NULL);
    CHECK_STR(pb_message_field(message, 63)->json_name, "lastDirect");
    CHECK(pb_message_field(message, 100)->is_map);
    CHECK(pb_message_field(message, 101)->is_packed);
    pb_pool_unref(pb_pool_ref(pool));
    pb_pool_unref(pool);
    pb_pool_unref(NULL);
}

static void refused(const char *name, uint32_t number, const char *type, const char *text)
{
    struct pb_field_spec specs[] = {{.name = "ok", .number = 5, .type = "bool"},
                                    {.name = name, .number = number, .type = type}};
    struct err err;
    CHECK(pb_pool_from_fields("test.M", specs, 2, &err) == NULL);
    CHECK_STR(err.text, text);
}

TEST(refuses_what_cannot_be_a_message)
{
    refused("ok", 6, "bool", "test.M: two fields are called 'ok'");
    refused("b", 5, "bool", "test.M: fields 'ok' and 'b' have the same number 5");
    refused("b", 0, "bool", "test.M.b: field number 0 is not allowed");
    refused("b", 536870912, "bool", "test.M.b: field number 536870912 is not allowed");
    refused("b", 19500, "bool", "test.M.b: field number 19500 is not allowed");
    refused("b", 6, "message", "test.M.b: unknown type 'message'");
    refused("1b", 6, "bool", "test.M: field name '1b' is not an identifier");
    refused("", 6, "bool", "test.M: field name '' is not an identifier");
}

TEST(refuses_bytes_that_are_no_descriptor_set)
{
    struct err err;
    CHECK(pb_pool_from_set("nonsense", 8, &err) == NULL);
    CHECK_INT(err.code, ERR_INVALID);
}

int main(void)
{
    RUN(finds_fields_by_number);
    RUN(refuses_what_cannot_be_a_message);
    RUN(refuses_bytes_that_are_no_descriptor_set);
    return 0;
}
