-- Send at the runtime with each store: the same load, and what a store reaches of the file store's rate.
-- BENCH_STORES=file,rocksdb names some of them; without it all that are in this build. Redis is a server of its own
-- on a unix socket, once per way of getting its file to the disk: BENCH_STORES=redis.

local sys = require("host.sys")

local load = require("spec.bench.lib.load")
local redis = require("spec.support.redis")
local stack = require("spec.bench.lib.stack")

-- Environment and what it must reach of the file store's rate with many calls in flight.
local STORES = {
  { name = "file", env = { MACP_STORAGE_BACKEND = "file" } },
  { name = "memory", env = { MACP_MEMORY_ONLY = "1" }, ratio = 0.9 },
  { name = "rocksdb", env = { MACP_STORAGE_BACKEND = "rocksdb" }, ratio = 0.7 },
  { name = "redis", fsync = "everysec", ratio = 0.4 },
  { name = "redis", fsync = "always", ratio = 0.4 },
}

local function is_wanted(name)
  local wanted = sys.env("BENCH_STORES")
  if wanted then return ("," .. wanted .. ","):find("," .. name .. ",", 1, true) ~= nil end
  for _, built in ipairs(require("host.journal").backends()) do
    if built == name then return true end
  end
  return false
end

-- Redis 7.2 is asked to wait for its disk, which everysec reaches once per second: nothing to measure with few in flight.
local function waits_for_disk(server, fsync)
  local major, minor = server:command("INFO", "server"):match("redis_version:(%d+)%.(%d+)")
  return fsync ~= "always" and tonumber(major) * 100 + tonumber(minor) >= 702
end

local function measure(report, store, base)
  local server = store.fsync and redis.start({ fsync = store.fsync })
  if server and waits_for_disk(server, store.fsync) then
    report:note("  redis %s is not measured: each acknowledgement takes up to a second", store.fsync)
    server:stop()
    return nil
  end
  local st = stack.new()
  local env = server and { MACP_STORAGE_BACKEND = "redis", MACP_REDIS_URL = server.url } or store.env
  local proc = st:serve("runtime", { env = env })
  local many = load.sessions(st.target, 512)
  local function send(opts)
    opts.target = st.target
    return load.send(opts)
  end
  send({ prefix = many, sessions = 512, calls = 20000, in_flight = 64 }) -- warm
  local spread = send({ prefix = many, sessions = 512, calls = 40000, in_flight = 64, first = 20000 })
  local one = send({ prefix = load.sessions(st.target, 1), sessions = 1, calls = 20000, in_flight = 64 })
  local single = send({ prefix = load.sessions(st.target, 1), sessions = 1, calls = 2000, in_flight = 1 })
  local label = store.name .. (store.fsync and " " .. store.fsync or "") .. ": 64 in flight, 512 sessions"
  if base and store.ratio then
    report:at_least(label, spread.rate, base * store.ratio, "/s")
  else
    report:note("  %s %.0f/s", label, spread.rate)
  end
  report:note("  ack p50 %.1f ms, p99 %.1f ms; one session %.0f/s; 1 in flight ack p50 %.2f ms; %.0f MiB resident",
    spread.p50_us / 1000, spread.p99_us / 1000, one.rate, single.p50_us / 1000, stack.rss_mib(proc.proc:pid()))
  proc:kill()
  proc:wait()
  st:close()
  if server then server:stop() end
  return spread.rate
end

return {
  name = "stores",
  about = "runtime Send with each store",
  run = function(report)
    local base
    for _, store in ipairs(STORES) do
      if is_wanted(store.name) then
        local rate = measure(report, store, base)
        base = base or (store.name == "file" and rate or nil)
      else
        report:note("  %s is not measured", store.name)
      end
    end
  end,
}
