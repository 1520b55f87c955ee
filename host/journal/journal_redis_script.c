/* Text of the scripts; see journal_redis_script.h. All replies are arrays that begin with a word.
 *
 * What fences writers: `epoch` changes whenever a program takes the journal, and every write checks it. What
 * shows lost data: `group` names the last group that was applied, and the next one must know that name. What
 * makes a repeated group harmless: a group that finds its own name there has been applied already. */
#include "journal/journal_redis_script.h"

/* PEXPIRE works on a server without memory, too. */
#define RENEW_LOCK                                                                                           \
    "if redis.call('PEXPIRE', KEYS[2], ARGV[3]) == 0 then\n"                                                 \
    "  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])\n"                                                 \
    "end\n"

/* KEYS: version, epoch, lock, group. ARGV: version, owner, nonce, lease in ms. */
static const char acquire[] =
    "local version = redis.call('GET', KEYS[1])\n"
    "if version and version ~= ARGV[1] then return { 'version', version } end\n"
    "local holder = redis.call('GET', KEYS[3])\n"
    "local epoch = redis.call('GET', KEYS[2]) or '0'\n"
    "if holder and holder ~= ARGV[2] then return { 'held', holder, redis.call('PTTL', KEYS[3]) } end\n"
    "if not holder then\n" /* else the reply to our own earlier try was lost */
    "  epoch = string.format('%d-%s', tonumber(string.match(epoch, '^%d+')) + 1, ARGV[3])\n"
    "  redis.call('SET', KEYS[1], ARGV[1])\n"
    "  redis.call('SET', KEYS[2], epoch)\n"
    "  redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[4])\n"
    "end\n"
    "return { 'ok', epoch, redis.call('GET', KEYS[4]) or '' }\n";

/* KEYS: epoch, lock, group, keys, then one list per step. ARGV: epoch, owner, lease in ms, name of the group
 * before, name of this one, "1" when the group only removes; then per step: key, expected length ("" when the
 * list is emptied first), generation of the log, length of the longest record, number of records, the
 * records.
 *
 * Everything is checked before the first write. A server without memory refuses a script's first write and no
 * later one, so that write is one that needs memory, unless nothing is added at all. */
static const char commit[] =
    "local epoch = redis.call('GET', KEYS[1])\n"
    "if epoch ~= ARGV[1] then\n"
    "  return { epoch and 'stale' or 'lost', redis.call('GET', KEYS[2]) or '' }\n"
    "end\n"
    "local last = redis.call('GET', KEYS[3]) or ''\n"
    "if last ~= ARGV[5] then\n"
    "  if last ~= ARGV[4] then return { 'lost', last } end\n"
    "  local at = 7\n"
    "  for i = 5, #KEYS do\n"
    "    local expected = ARGV[at + 1]\n"
    "    local len = redis.pcall('LLEN', KEYS[i])\n"
    "    if type(len) == 'table' then return { 'diverged', ARGV[at], expected, len.err } end\n"
    "    if expected ~= '' and len ~= tonumber(expected) then\n"
    "      return { 'diverged', ARGV[at], expected, tostring(len) }\n"
    "    end\n"
    "    at = at + 5 + tonumber(ARGV[at + 4])\n"
    "  end\n"
    "  if ARGV[6] ~= '1' then redis.call('SET', KEYS[3], ARGV[5]) end\n"
    "  at = 7\n"
    "  for i = 5, #KEYS do\n"
    "    local name, len, widest = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 3])\n"
    "    local generation, count = ARGV[at + 2], tonumber(ARGV[at + 4])\n"
    "    if not len then\n"
    "      redis.call('DEL', KEYS[i])\n"
    "      len = 0\n"
    "    elseif len > 0 then\n"
    "      local facts = redis.call('HGET', KEYS[4], name) or ''\n"
    "      widest = math.max(widest, tonumber(string.match(facts, '^%d+ (%d+)')) or 0)\n"
    "    end\n"
    "    at = at + 5\n"
    "    for first = at, at + count - 1, 1000 do\n"
    "      redis.call('RPUSH', KEYS[i], unpack(ARGV, first, math.min(first + 999, at + count - 1)))\n"
    "    end\n"
    "    at = at + count\n"
    "    if len + count == 0 then\n"
    "      redis.call('HDEL', KEYS[4], name)\n"
    "    else\n"
    "      redis.call('HSET', KEYS[4], name, string.format('%d %d %s', len + count, widest, generation))\n"
    "    end\n"
    "  end\n"
    "end\n" RENEW_LOCK
    "redis.call('SET', KEYS[3], ARGV[5])\n" /* also when applied before: WAITAOF waits for own writes only */
    "return { 'ok' }\n";

/* KEYS: epoch, lock. ARGV: epoch, owner, lease in ms. */
static const char renew[] = "local epoch = redis.call('GET', KEYS[1])\n"
                            "if epoch ~= ARGV[1] then\n"
                            "  return { epoch and 'stale' or 'lost', redis.call('GET', KEYS[2]) or '' }\n"
                            "end\n" RENEW_LOCK "return { 'ok' }\n";

/* KEYS: epoch, lock. ARGV: epoch. */
static const char release[] = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[2]) end\n"
                              "return { 'ok' }\n";

/* KEYS: lists. The length of each; -1 for something that is no list. */
static const char count[] = "local out = {}\n"
                            "for i = 1, #KEYS do\n"
                            "  local len = redis.pcall('LLEN', KEYS[i])\n"
                            "  out[i] = type(len) == 'number' and len or -1\n"
                            "end\n"
                            "return out\n";

/* KEYS: keys, then lists. ARGV: most bytes; then per list: key, generation, first index, number of records.
 * The reply holds one array per list, until the bytes are used up: "missing" when the log is another one or
 * ends early, else "ok", and the records. The longest record of a list, which is noted at its key, bounds
 * what is fetched beyond the limit: one record. */
static const char read[] =
    "local left, out, total = tonumber(ARGV[1]), {}, 0\n"
    "for i = 2, #KEYS do\n"
    "  local at = 4 * i - 6\n"
    "  local from, want = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])\n"
    "  local facts = redis.call('HGET', KEYS[1], ARGV[at]) or ''\n"
    "  local widest, generation = string.match(facts, '^%d+ (%d+) (%d+)$')\n"
    "  local got, found = { 'ok' }, 0\n"
    "  if generation ~= ARGV[at + 1] then got[1], want = 'missing', 0 end\n"
    "  widest = math.max(1, tonumber(widest) or 1)\n"
    "  while found < want do\n"
    "    local room = math.min(want - found, math.floor(left / widest), 1000)\n"
    "    if room < 1 then\n"
    "      if total > 0 then break end\n"
    "      room = 1\n"
    "    end\n"
    "    local part = redis.call('LRANGE', KEYS[i], from - 1 + found, from - 2 + found + room)\n"
    "    for _, record in ipairs(part) do\n"
    "      found = found + 1\n"
    "      got[found + 1] = record\n"
    "      left, total = left - #record + 4, total + 1\n"
    "    end\n"
    "    if #part < room then\n"
    "      got[1] = 'missing'\n"
    "      break\n"
    "    end\n"
    "  end\n"
    "  out[#out + 1] = got\n"
    "  if left < 1 then break end\n"
    "end\n"
    "return out\n";

const char *const journal_redis_scripts[JOURNAL_REDIS_SCRIPT_COUNT] = {
    [JOURNAL_REDIS_ACQUIRE] = acquire, [JOURNAL_REDIS_COMMIT] = commit, [JOURNAL_REDIS_RENEW] = renew,
    [JOURNAL_REDIS_RELEASE] = release, [JOURNAL_REDIS_COUNT] = count,   [JOURNAL_REDIS_READ] = read,
};
