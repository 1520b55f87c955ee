/* libcurl's multi handle on libuv: one poll handle per socket, one timer. curl is never entered from its own
 * callbacks; events reach the users of transfers at the end of the turn, outside of curl. */
#include "http/http_client_internal.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/xmem.h"
#include "loop/loop.h"

enum { KEPT_CONNECTIONS = 32 };

struct poll {
    uv_poll_t uv;
    struct http_client *client;
    curl_socket_t socket;
    int events; /* what curl waits for: UV_READABLE, UV_WRITABLE */
};

static void start_curl(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT); /* fails only without memory; then nothing works */
}

/* --- delivering events ---------------------------------------------------------------------- */

static void deliver(void *arg)
{
    struct http_client *client = arg;
    struct list batch;
    list_init(&batch);
    client->delivery_is_due = false;
    while (!list_is_empty(&client->notify)) {
        list_push_back(&batch, list_pop_front(&client->notify));
    }
    struct list *node;
    while ((node = list_pop_front(&batch)) != NULL) {
        struct http_fetch *fetch = list_entry(node, struct http_fetch, notify_node);
        int events = fetch->events;
        fetch->events = 0;
        fetch->fn(fetch->arg, events); /* may close this and other transfers, which unlinks them */
    }
    http_client_unref(client);
}

void http_client_notify(struct http_client *client, struct http_fetch *fetch, int events)
{
    fetch->events |= events;
    if (list_is_empty(&fetch->notify_node)) {
        list_push_back(&client->notify, &fetch->notify_node);
    }
    if (!client->delivery_is_due) {
        client->delivery_is_due = true;
        http_client_ref(client);
        loop_defer(client->loop, deliver, client);
    }
}

/* --- driving curl --------------------------------------------------------------------------- */

static void read_results(struct http_client *client)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(client->multi, &left)) != NULL) {
        if (message->msg != CURLMSG_DONE) {
            continue;
        }
        CURLcode result = message->data.result; /* the message dies with the removal */
        struct http_fetch *fetch = NULL;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&fetch); /* always set */
        http_fetch_finish(fetch, result);
    }
}

static void act(struct http_client *client, curl_socket_t socket, int flags)
{
    int running;
    http_client_ref(client);
    (void)curl_multi_socket_action(client->multi, socket, flags, &running); /* failures end their transfers */
    read_results(client);
    http_client_unref(client);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct poll *poll = handle->data;
    int flags = status < 0 ? CURL_CSELECT_ERR : 0;
    flags |= (events & UV_READABLE) != 0 ? CURL_CSELECT_IN : 0;
    flags |= (events & UV_WRITABLE) != 0 ? CURL_CSELECT_OUT : 0;
    act(poll->client, poll->socket, flags);
    /* libuv stops watching after an error, and curl, which may still have a tail to read, does not know. */
    if (status < 0 && poll->events != 0 && !uv_is_closing((uv_handle_t *)handle)) {
        (void)uv_poll_start(handle, poll->events,
                            on_poll); /* a socket that is gone reports again and is closed */
    }
}

static void on_poll_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static struct poll *open_poll(struct http_client *client, curl_socket_t socket)
{
    struct poll *poll = xcalloc(1, sizeof(*poll));
    if (uv_poll_init_socket(loop_uv(client->loop), &poll->uv, socket) != 0) {
        free(poll);
        return NULL;
    }
    poll->uv.data = poll;
    poll->client = client;
    poll->socket = socket;
    (void)curl_multi_assign(client->multi, socket, poll); /* fails only for a socket curl does not know */
    return poll;
}

static int on_socket(CURL *easy, curl_socket_t socket, int what, void *arg, void *socket_arg)
{
    struct http_client *client = arg;
    struct poll *poll = socket_arg;
    if (what == CURL_POLL_REMOVE) {
        if (poll != NULL) {
            (void)uv_poll_stop(&poll->uv); /* always 0 */
            uv_close((uv_handle_t *)&poll->uv, on_poll_closed);
            (void)curl_multi_assign(client->multi, socket, NULL); /* as above */
        }
        return 0;
    }
    if (poll == NULL) {
        poll = open_poll(client, socket);
    }
    if (poll == NULL) {
        return -1;
    }
    poll->events =
        ((what & CURL_POLL_IN) != 0 ? UV_READABLE : 0) | ((what & CURL_POLL_OUT) != 0 ? UV_WRITABLE : 0);
    return uv_poll_start(&poll->uv, poll->events, on_poll) == 0 ? 0 : -1;
}

static void on_timer(uv_timer_t *handle)
{
    act(handle->data, CURL_SOCKET_TIMEOUT, 0);
}

static int on_timeout_change(CURLM *multi, long timeout_ms, void *arg)
{
    struct http_client *client = arg;
    if (client->timer == NULL) {
        return 0; /* no transfer runs: curl only tidies up */
    }
    if (timeout_ms < 0) {
        (void)uv_timer_stop(client->timer); /* always 0 */
    } else {
        (void)uv_timer_start(client->timer, on_timer, (uint64_t)timeout_ms, 0); /* fails only when closing */
    }
    return 0;
}

/* --- transfers in and out ------------------------------------------------------------------- */

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle);
}

int http_client_add(struct http_client *client, struct http_fetch *fetch, struct err *err)
{
    if (client->active++ == 0) {
        client->timer = xcalloc(1, sizeof(*client->timer));
        (void)uv_timer_init(loop_uv(client->loop), client->timer); /* always 0 */
        client->timer->data = client;
    }
    fetch->is_active = true;
    CURLMcode status = curl_multi_add_handle(client->multi, fetch->easy);
    if (status != CURLM_OK) {
        http_client_remove(client, fetch);
        return err_set_detail(err, ERR_INTERNAL, (int)status, "start a transfer: %s",
                              curl_multi_strerror(status));
    }
    return 0;
}

void http_client_remove(struct http_client *client, struct http_fetch *fetch)
{
    if (!fetch->is_active) {
        return;
    }
    fetch->is_active = false;
    (void)curl_multi_remove_handle(client->multi, fetch->easy); /* it is there */
    if (--client->active == 0) {
        uv_close((uv_handle_t *)client->timer, on_timer_closed);
        client->timer = NULL;
    }
}

/* --- life ----------------------------------------------------------------------------------- */

void http_client_ref(struct http_client *client)
{
    client->refs++;
}

void http_client_unref(struct http_client *client)
{
    if (--client->refs > 0) {
        return;
    }
    /* Kept connections close now; their sockets are not polled any more. */
    (void)curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, NULL);
    (void)curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, NULL);
    (void)curl_multi_cleanup(client->multi);
    free(client);
}

int http_client_new(struct loop *loop, struct http_client **out, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, start_curl);
    if ((curl_version_info(CURLVERSION_NOW)->features & CURL_VERSION_ASYNCHDNS) == 0) {
        return err_set(err, ERR_UNAVAILABLE,
                       "this libcurl resolves names synchronously, which would block the loop");
    }
    struct http_client *client = xcalloc(1, sizeof(*client));
    client->loop = loop;
    client->refs = 1;
    client->multi = curl_multi_init();
    if (client->multi == NULL) {
        free(client);
        return err_set(err, ERR_INTERNAL, "libcurl has no memory");
    }
    list_init(&client->notify);
    (void)curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, on_socket); /* known options: always OK */
    (void)curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
    (void)curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, on_timeout_change);
    (void)curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
    (void)curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long)KEPT_CONNECTIONS);
    *out = client;
    return 0;
}

void http_client_free(struct http_client *client)
{
    if (client != NULL) {
        http_client_unref(client);
    }
}
