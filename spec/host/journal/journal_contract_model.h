/* Part of the suite of journal_contract_tests.h: random operations against a model. */
#pragma once

#include "journal/journal_contract.h"

enum { MODEL_KEYS = 12, MODEL_STEPS = 1500 };

struct contract_model {
    char texts[MODEL_KEYS][4096]; /* as help_read gives them */
    uint32_t state;
};

static uint32_t contract_random(struct contract_model *model, uint32_t below)
{
    model->state = model->state * 1664525U + 1013904223U;
    return (uint32_t)((uint64_t)(model->state >> 4) * below >> 28);
}

static uint64_t contract_step(struct contract_model *model, struct journal *journal, int number)
{
    uint32_t which = contract_random(model, MODEL_KEYS);
    char key[8];
    char text[16];
    char *log = model->texts[which];
    (void)snprintf(key, sizeof(key), "m%u", which);
    (void)snprintf(text, sizeof(text), "%d", number);
    uint32_t action = contract_random(model, 12);
    if (action >= 10) {
        journal->ops->park(journal, key, strlen(key));
    }
    if (action == 0 && log[0] != '\0') {
        log[0] = '\0';
        return contract_remove(journal, key);
    }
    if (action == 1 || strlen(log) > sizeof(model->texts[0]) - 64) {
        char texts[64];
        (void)snprintf(texts, sizeof(texts), "%s,r,%s", text, text);
        (void)snprintf(log, sizeof(model->texts[0]), "%s,", texts);
        return contract_replace(journal, key, texts);
    }
    size_t len = strlen(log);
    (void)snprintf(log + len, sizeof(model->texts[0]) - len, "%s,", text);
    return help_add(journal, key, text);
}

static uint64_t contract_length(const char *text)
{
    uint64_t count = 0;
    for (; *text != '\0'; text++) {
        count += *text == ',';
    }
    return count;
}

/* Everything that is to be known of the journal, when nothing is pending. */
static void contract_compare(struct contract_model *model, struct journal *journal)
{
    size_t keys = 0;
    uint64_t live = 0;
    for (int i = 0; i < MODEL_KEYS; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "m%d", i);
        CHECK_STR(help_read(journal, key), model->texts[i]);
        uint64_t count = contract_length(model->texts[i]);
        if (count > 0 || contract->opts.parking.print_bits == 0) { /* else it may be that of another key */
            CHECK_INT(contract_count(journal, key), count);
            CHECK_INT(contract_with_pending(journal, key), count);
        }
        keys += count > 0;
        live += count;
    }
    struct journal_stats stats;
    journal->ops->stats(journal, &stats);
    CHECK_INT(stats.keys, keys);
    CHECK_INT(stats.live, live);
    CHECK_INT(contract_key_count(journal), keys);
}

static void contract_compare_scan(struct contract_model *model, struct journal *journal)
{
    size_t keys = 0;
    struct contract_scan *scan = contract_scan_all(journal);
    for (int i = 0; i < MODEL_KEYS; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "m%d", i);
        if (model->texts[i][0] == '\0') {
            continue;
        }
        keys++;
        size_t slot = contract_slot(scan, key, strlen(key));
        buf_append_byte(&scan->texts[slot], '\0');
        CHECK_STR(scan->texts[slot].data, model->texts[i]);
    }
    CHECK_INT(scan->key_count, keys);
}

TEST(random_changes_agree_with_a_model)
{
    static struct contract_model model;
    memset(&model, 0, sizeof(model));
    model.state = 20250101;
    struct journal *journal = contract_fresh();
    uint64_t lsn = 0;
    for (int i = 0; i < MODEL_STEPS; i++) {
        lsn = contract_step(&model, journal, i);
        if (contract_random(&model, 20) == 0) {
            CHECK_INT(help_wait(journal, lsn), 0);
            contract_compare(&model, journal);
            if (contract_random(&model, 4) == 0) {
                contract_compare_scan(&model, journal);
            }
        }
        if (contract->is_durable && i % 300 == 299) {
            journal = contract_reopen(journal);
            contract_compare(&model, journal);
        }
    }
    help_close(journal);
}
