/* Fault points; see fault.h. Empty unless MACP_FAULTS is defined. */
#include "base/fault.h"

#ifdef MACP_FAULTS

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_POINTS = 16 };

struct point {
    char name[48];
    bool kill;
    int after; /* hits that pass before the point acts; acts on every later hit */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct point points[MAX_POINTS];
static int count; /* points in use */
static bool loaded;

static struct point *find(const char *name)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(points[i].name, name) == 0) {
            return &points[i];
        }
    }
    return NULL;
}

static void arm(const char *name, const char *action, int after)
{
    struct point *point = find(name);
    if (action == NULL) {
        if (point != NULL) {
            *point = points[--count];
        }
        return;
    }
    if (point == NULL) {
        if (count == MAX_POINTS) {
            return;
        }
        point = &points[count++];
    }
    (void)snprintf(point->name, sizeof(point->name), "%s", name);
    point->kill = strcmp(action, "kill") == 0;
    point->after = after;
}

/* "name[=action[:count]],..." */
static void load_environment(void)
{
    loaded = true;
    const char *text = getenv("MACP_FAULT");
    if (text == NULL) {
        return;
    }
    char *copy = strdup(text);
    char *save = NULL;
    for (char *item = strtok_r(copy, ",", &save); item != NULL; item = strtok_r(NULL, ",", &save)) {
        char *action = strchr(item, '=');
        char *after = NULL;
        if (action != NULL) {
            *action++ = '\0';
            after = strchr(action, ':');
            if (after != NULL) {
                *after++ = '\0';
            }
        }
        arm(item, action == NULL ? "fail" : action, after == NULL ? 0 : (int)strtol(after, NULL, 10));
    }
    free(copy);
}

bool fault_hit(const char *name)
{
    bool acts = false;
    (void)pthread_mutex_lock(&mutex);
    if (!loaded) {
        load_environment();
    }
    struct point *point = count == 0 ? NULL : find(name);
    if (point != NULL) {
        if (point->after > 0) {
            point->after--;
        } else if (point->kill) {
            (void)kill(getpid(), SIGKILL);
        } else {
            acts = true;
        }
    }
    (void)pthread_mutex_unlock(&mutex);
    return acts;
}

void fault_arm(const char *name, const char *action, int after_hits)
{
    (void)pthread_mutex_lock(&mutex);
    loaded = true;
    arm(name, action, after_hits);
    (void)pthread_mutex_unlock(&mutex);
}

#endif
