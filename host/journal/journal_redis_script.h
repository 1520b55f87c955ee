/* The Lua scripts that run inside the Redis server. Each is atomic there; together they are the format of the
 * stored journal, which host/README.md describes. */
#pragma once

enum journal_redis_script {
    JOURNAL_REDIS_ACQUIRE,
    JOURNAL_REDIS_COMMIT,
    JOURNAL_REDIS_RENEW,
    JOURNAL_REDIS_RELEASE,
    JOURNAL_REDIS_COUNT,
    JOURNAL_REDIS_READ,
    JOURNAL_REDIS_SCRIPT_COUNT,
};

extern const char *const journal_redis_scripts[JOURNAL_REDIS_SCRIPT_COUNT];
