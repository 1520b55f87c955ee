/* Decided lsns and their waiters; see journal_ledger.h. */
#include "journal/journal_ledger.h"

#include <assert.h>
#include <stdlib.h>

#include "base/xmem.h"
#include "loop/loop.h"

/* Lsns whose flush failed. */
struct journal_failure {
    uint64_t first_lsn;
    uint64_t last_lsn;
    struct err err;
};

void journal_ledger_init(struct journal_ledger *ledger, struct loop *loop, void (*on_idle)(void *arg),
                         void *arg)
{
    *ledger = (struct journal_ledger){.loop = loop, .on_idle = on_idle, .arg = arg, .next_lsn = 1};
    list_init(&ledger->spans);
}

void journal_ledger_deinit(struct journal_ledger *ledger)
{
    free(ledger->failures);
}

void journal_ledger_start(struct journal_ledger *ledger, uint64_t last_lsn)
{
    ledger->next_lsn = last_lsn + 1;
    ledger->decided_lsn = last_lsn;
}

void journal_ledger_add(struct journal_ledger *ledger, struct journal_span *span)
{
    list_init(&span->waiters);
    span->first_lsn = ledger->next_lsn;
    span->last_lsn = ledger->next_lsn - 1;
    list_push_back(&ledger->spans, &span->link);
}

uint64_t journal_ledger_next(struct journal_ledger *ledger, struct journal_span *span)
{
    span->last_lsn = ledger->next_lsn++;
    return span->last_lsn;
}

static void note_failure(struct journal_ledger *ledger, const struct journal_span *span,
                         const struct err *err)
{
    size_t count = ledger->failure_count;
    if (count > 0 && ledger->failures[count - 1].last_lsn + 1 == span->first_lsn) {
        ledger->failures[count - 1].last_lsn = span->last_lsn;
        return;
    }
    ledger->failures = xrealloc(ledger->failures, (count + 1) * sizeof(*ledger->failures));
    ledger->failures[ledger->failure_count++] =
        (struct journal_failure){span->first_lsn, span->last_lsn, *err};
}

void journal_ledger_decide(struct journal_ledger *ledger, struct journal_span *span, const struct err *err)
{
    list_remove(&span->link);
    ledger->decided_lsn = span->last_lsn;
    if (err != NULL) {
        note_failure(ledger, span, err);
    }
}

void journal_ledger_wake(struct journal_span *span, const struct err *err)
{
    for (struct list *node; (node = list_pop_front(&span->waiters)) != NULL;) {
        struct journal_op *op = list_entry(node, struct journal_op, link);
        op->done(op->arg, err);
        free(op);
    }
}

int journal_ledger_check(const struct journal_ledger *ledger, uint64_t lsn, struct err *err)
{
    if (lsn == 0 || lsn >= ledger->next_lsn) {
        return err_set(err, ERR_INVALID, "lsn %llu was never given out", (unsigned long long)lsn);
    }
    for (size_t i = ledger->failure_count; i-- > 0 && lsn <= ledger->failures[i].last_lsn;) {
        if (lsn >= ledger->failures[i].first_lsn) {
            *err = ledger->failures[i].err;
            return err->code;
        }
    }
    return lsn <= ledger->decided_lsn ? 1 : 0;
}

static void on_decided(void *arg)
{
    struct journal_op *op = arg;
    struct journal_ledger *ledger = op->ledger;
    struct err err = {0};
    if (op->is_cancelled) {
        (void)err_set(&err, ERR_CANCELLED, "the wait was cancelled");
    } else {
        (void)journal_ledger_check(ledger, op->lsn, &err);
    }
    op->done(op->arg, err.code == 0 ? NULL : &err);
    free(op);
    ledger->busy--;
    ledger->on_idle(ledger->arg);
}

static void decide_later(struct journal_op *op)
{
    op->ledger->busy++;
    loop_defer(op->ledger->loop, on_decided, op);
}

struct journal_op *journal_ledger_wait(struct journal_ledger *ledger, uint64_t lsn, journal_done_fn fn,
                                       void *arg)
{
    struct journal_op *op = xcalloc(1, sizeof(*op));
    op->ledger = ledger;
    op->done = fn;
    op->arg = arg;
    op->lsn = lsn;
    list_init(&op->link);
    if (lsn <= ledger->decided_lsn || lsn >= ledger->next_lsn) {
        decide_later(op);
        return op;
    }
    struct journal_span *span = NULL;
    list_each (node, &ledger->spans) {
        span = list_entry(node, struct journal_span, link);
        if (lsn <= span->last_lsn) {
            break;
        }
    }
    assert(span != NULL); /* every lsn that is not decided is in a span */
    list_push_back(&span->waiters, &op->link);
    return op;
}

void journal_ledger_cancel(struct journal_op *op)
{
    op->is_cancelled = true;
    if (!list_is_empty(&op->link)) {
        list_remove(&op->link);
        decide_later(op);
    }
}
