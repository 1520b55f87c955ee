/* The loop: deferred calls, posts from threads, timers, pool work, leak counting. */
#include <pthread.h>

#include "loop/inbox.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "loop/work.h"
#include "test.h"

static struct loop *loop;

static struct loop *open_loop(void)
{
    struct err err;
    CHECK_INT(loop_open(&loop, &err), 0);
    return loop;
}

static char order[16];
static size_t order_len;

static void note(void *arg)
{
    order[order_len++] = *(const char *)arg;
    order[order_len] = '\0';
}

static void note_and_defer(void *arg)
{
    note(arg);
    loop_defer(loop, note, "c");
}

static void stop(void *arg)
{
    loop_stop(loop);
}

TEST(deferred_calls_run_later_and_in_order)
{
    open_loop();
    order_len = 0;
    loop_defer(loop, note_and_defer, "a");
    loop_defer(loop, note, "b");
    CHECK_INT(order_len, 0); /* never from inside the call */
    struct timer *timer = timer_open(loop, stop, NULL);
    timer_start(timer, 5, 0);
    loop_run(loop);
    CHECK_STR(order, "abc");
    timer_close(timer);
    CHECK_INT(loop_close(loop), 0);
}

static int turns;

static void on_turn(uv_prepare_t *handle)
{
    (void)handle;
    turns++;
}

/* How often the loop polls within 200 ms in which nothing happens. */
static int count_turns(bool awake, bool may_sleep)
{
    open_loop();
    uv_prepare_t prepare;
    uv_prepare_init(loop_uv(loop), &prepare);
    uv_prepare_start(&prepare, on_turn);
    turns = 0;
    struct timer *timer = timer_open(loop, stop, NULL);
    timer_start(timer, 200, 0);
    if (awake) {
        loop_stay_awake(loop, UINT64_C(100000000));
    }
    if (may_sleep) {
        loop_may_sleep(loop);
    }
    loop_run(loop);
    timer_close(timer);
    uv_close((uv_handle_t *)&prepare, NULL);
    CHECK_INT(loop_close(loop), 0);
    return turns;
}

TEST(a_loop_told_to_stay_awake_polls_until_the_time_is_over_or_it_may_sleep)
{
    CHECK(count_turns(false, false) < 20);
    CHECK(count_turns(true, false) > 100); /* and it ends: the timer behind it fires */
    CHECK(count_turns(true, true) < 20);
}

enum { THREADS = 4, POSTS = 20000 };

struct post {
    struct inbox_item item;
    int thread;
    int number;
};

static int last_number[THREADS];
static int received;

static void on_post(struct inbox_item *item)
{
    struct post *post = (struct post *)item;
    CHECK_INT(post->number, last_number[post->thread] + 1); /* order of each thread is kept */
    last_number[post->thread] = post->number;
    free(post);
    if (++received == THREADS * POSTS) {
        loop_stop(loop);
    }
}

static void *poster(void *arg)
{
    for (int i = 1; i <= POSTS; i++) {
        struct post *post = calloc(1, sizeof(*post));
        post->item.fn = on_post;
        post->thread = (int)(intptr_t)arg;
        post->number = i;
        inbox_post(loop_inbox(loop), &post->item);
    }
    return NULL;
}

TEST(posts_of_many_threads_all_arrive_in_order)
{
    open_loop();
    inbox_ref(loop_inbox(loop));
    pthread_t threads[THREADS];
    for (intptr_t i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_create(&threads[i], NULL, poster, (void *)i), 0);
    }
    loop_run(loop);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK_INT(received, THREADS * POSTS);
    inbox_unref(loop_inbox(loop));
    CHECK_INT(loop_close(loop), 0);
}

static pthread_t work_thread;
static int work_state;

static void run_work(void *arg)
{
    work_thread = pthread_self();
    work_state = 1;
}

static void done_work(void *arg)
{
    CHECK_INT(work_state, 1);
    CHECK(!pthread_equal(work_thread, pthread_self()));
    work_state = 2;
}

TEST(work_runs_on_a_thread_and_ends_on_the_loop)
{
    open_loop();
    work_queue(loop, run_work, done_work, NULL);
    loop_run(loop);
    CHECK_INT(work_state, 2);
    CHECK_INT(loop_close(loop), 0);
}

static int ticks;

static void tick(void *arg)
{
    if (++ticks == 3) {
        loop_stop(loop);
    }
}

TEST(timers_repeat_until_stopped)
{
    open_loop();
    struct timer *timer = timer_open(loop, tick, NULL);
    timer_start(timer, 1, 1);
    loop_run(loop);
    CHECK_INT(ticks, 3);
    timer_stop(timer);
    loop_run(loop); /* nothing is left to do: returns at once */
    CHECK_INT(ticks, 3);
    timer_close(timer);
    CHECK_INT(loop_close(loop), 0);
}

TEST(close_counts_open_handles)
{
    open_loop();
    static struct timer *volatile forgotten; /* static: LeakSanitizer takes it for still in use */
    forgotten = timer_open(loop, tick, NULL);
    CHECK(forgotten != NULL);
    CHECK_INT(loop_close(loop), 1);
}

int main(void)
{
    RUN(deferred_calls_run_later_and_in_order);
    RUN(a_loop_told_to_stay_awake_polls_until_the_time_is_over_or_it_may_sleep);
    RUN(posts_of_many_threads_all_arrive_in_order);
    RUN(work_runs_on_a_thread_and_ends_on_the_loop);
    RUN(timers_repeat_until_stopped);
    RUN(close_counts_open_handles);
    return 0;
}
