/* Which lsns are decided, and who waits for them: the part of group commit that is the same in every backend
 * that writes. Loop thread only. */
#pragma once

#include <stdbool.h>

#include "base/list.h"
#include "journal/journal.h"

/* Lsns that are decided together; embedded in a backend's group. */
struct journal_span {
    struct list link; /* in the ledger until it is decided */
    uint64_t first_lsn;
    uint64_t last_lsn;
    struct list waiters; /* struct journal_op */
};

struct journal_ledger {
    struct loop *loop;
    uint64_t next_lsn;
    uint64_t decided_lsn;
    struct list spans; /* not decided, in the order of their lsns */
    struct journal_failure *failures;
    size_t failure_count;
    int busy;                   /* callbacks under way */
    void (*on_idle)(void *arg); /* after each of them */
    void *arg;
};

/* A wait, read or scan step in progress. */
struct journal_op {
    struct list link; /* wait: in its span */
    struct journal *journal;
    struct journal_ledger *ledger; /* wait */
    journal_done_fn done;          /* wait */
    journal_records_fn records;    /* read, scan step */
    void *arg;
    uint64_t lsn; /* wait */
    bool is_cancelled;
};

void journal_ledger_init(struct journal_ledger *ledger, struct loop *loop, void (*on_idle)(void *arg),
                         void *arg);
void journal_ledger_deinit(struct journal_ledger *ledger);
void journal_ledger_start(struct journal_ledger *ledger, uint64_t last_lsn); /* the next one follows it */
void journal_ledger_add(struct journal_ledger *ledger, struct journal_span *span); /* a group is opened */
uint64_t journal_ledger_next(struct journal_ledger *ledger,
                             struct journal_span *span); /* gives out an lsn of the last span */
/* The oldest span is durable, or has failed with err. Its waiters are told later. */
void journal_ledger_decide(struct journal_ledger *ledger, struct journal_span *span, const struct err *err);
void journal_ledger_wake(struct journal_span *span, const struct err *err);
/* As in journal_ops. */
int journal_ledger_check(const struct journal_ledger *ledger, uint64_t lsn, struct err *err);
struct journal_op *journal_ledger_wait(struct journal_ledger *ledger, uint64_t lsn, journal_done_fn fn,
                                       void *arg);
void journal_ledger_cancel(struct journal_op *op); /* of a wait */
