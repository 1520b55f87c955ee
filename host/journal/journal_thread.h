/* A thread for one blocking task at a time, reported back on the loop. A thread of its own, because the
 * shared pool may be busy with slow work and every acknowledgement waits for this one. */
#pragma once

#include "loop/inbox.h"

struct loop;
struct journal_thread;

/* Embed this in what travels; it must stay valid until done has run. */
struct journal_task {
    struct inbox_item item;
    struct inbox *inbox;
    void (*run)(struct journal_task *task);  /* on the thread: may block */
    void (*done)(struct journal_task *task); /* on the loop thread, once per submit */
};

struct journal_thread *journal_thread_open(struct loop *loop);
/* run and done are set, and the task before has been done. The loop stays alive until then. */
void journal_thread_submit(struct journal_thread *thread, struct journal_task *task);
void journal_thread_close(struct journal_thread *thread); /* no task in flight; joins; NULL is fine */
