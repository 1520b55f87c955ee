-- Lists and the dashboard over a long past: BENCH_RUNS=1000000 for a million runs and ten million events (making them
-- takes minutes; BENCH_DATA=DIR keeps them).

local sys = require("host.sys")

local time = require("macp.core.time")

local past = require("spec.bench.lib.past")
local stack = require("spec.bench.lib.stack")

local REQUESTS = 200
local DAY_MS = 86400000

-- Name, bound in ms, path of the i-th request. One after another; every answer is read and must be a 200.
local function cases(made)
  local newest = made.until_ms
  local function day_before(i) return time.iso(newest - (1 + i % 20) * DAY_MS) end
  local states = { "completed", "failed", "cancelled", "suspended" }
  local environments = { "production", "staging", "development" }
  local modes = { "macp.mode.decision.v1", "macp.mode.task.v1", "macp.mode.quorum.v1", "macp.mode.none.v1" }
  local function by(name, bound, path) return { name = "GET " .. name, bound = bound, path = path } end
  return {
    by("/runs?limit=50", 20, function() return "/runs?limit=50" end),
    by("/runs?status=", 100, function(i) return "/runs?limit=50&status=" .. states[1 + i % #states] end),
    by("/runs?environment=", 100, function(i) return "/runs?limit=50&environment=" .. environments[1 + i % 3] end),
    by("/runs?tags=", 100, function(i) return "/runs?limit=50&tags=team-" .. i % 25 end),
    by("/runs?tags= of one hour", 100, function(i) return "/runs?limit=50&tags=release-" .. i % 24 end),
    by("/runs?tags=&status=&environment=", 100, function(i)
      return "/runs?limit=50&status=failed&tags=team-" .. i % 25 .. "&environment=" .. environments[1 + i % 3]
    end),
    by("/runs?tags= of one hour&status=&environment=", 100, function(i)
      return "/runs?limit=50&status=completed&tags=release-" .. i % 24 .. "&environment=" .. environments[1 + i % 3]
    end),
    by("/runs?tags= of two", 100, function(i)
      return "/runs?limit=50&tags=team-" .. i % 25 .. ",team-" .. (i + i % 3) % 25
    end),
    by("/runs?status=&environment= that hardly occur together", 100, function(i)
      return "/runs?limit=50&status=" .. states[2 + i % 3] .. "&environment=" .. environments[1 + i % #environments]
    end),
    by("/runs?modeName=", 100, function(i) return "/runs?limit=50&modeName=" .. modes[1 + i % #modes] end),
    by("/runs?modeName=&status=&environment=", 100, function(i)
      return "/runs?limit=50&status=failed&modeName=" .. modes[1 + i % #modes] .. "&environment="
        .. environments[1 + i % 3]
    end),
    by("/runs?modeName=&tags=", 100, function(i)
      return "/runs?limit=50&modeName=" .. modes[1 + i % #modes] .. "&tags=team-" .. i % 25
    end),
    by("/runs?offset= far away", 100, function(i)
      return "/runs?limit=50&offset=" .. math.floor(made.runs / 250) * i
    end),
    by("/runs?environment=&offset= far away", 100, function(i)
      return "/runs?limit=50&environment=" .. environments[1 + i % 3] .. "&offset=" .. math.floor(made.runs / 700) * i
    end),
    by("/runs?createdBefore=&sortBy=updatedAt", 100, function(i)
      return "/runs?limit=50&sortBy=updatedAt&createdBefore=" .. day_before(i)
    end),
    by("/runs?createdAfter=&sortBy=updatedAt, ascending", 100, function(i)
      return "/runs?limit=50&sortBy=updatedAt&sortOrder=asc&createdAfter=" .. day_before(i)
    end),
    by("/runs?status=&environment=&sortBy=updatedAt", 100, function(i)
      return "/runs?limit=50&sortBy=updatedAt&status=" .. states[1 + i % #states] .. "&environment="
        .. environments[1 + i % 3]
    end),
    by("/runs?tags= of one hour&sortBy=updatedAt", 100, function(i)
      return "/runs?limit=50&sortBy=updatedAt&tags=release-" .. i % 24
    end),
    by("/runs?scenarioRef=", 100, function(i) return "/runs?limit=50&scenarioRef=scenario-" .. i % 1000 .. "@" end),
    by("/runs?search=", 100, function(i) return "/runs?limit=50&search=policy.team-" .. 100 + i % 200 end),
    by("/runs?scenarioRef=&status=&environment=", 100, function(i)
      return "/runs?limit=50&status=failed&scenarioRef=pack-" .. i % 40 .. "/&environment=" .. environments[1 + i % 3]
    end),
    by("/runs?search=&tags=", 100, function(i)
      return "/runs?limit=50&search=policy.team-" .. 100 + i % 200 .. "&tags=team-" .. i % 25
    end),
    by("/runs?search= of nearly all", 100, function() return "/runs?limit=50&search=scenario" end),
    by("/runs?search= of what only old runs have", 100, function(i)
      return "/runs?limit=50&search=release-" .. 1 + i % 9
    end),
    by("/runs?search= of nothing", 100, function(i) return "/runs?limit=50&search=nowhere-" .. i end),
    by("/runs?createdAfter=", 100, function(i) return "/runs?limit=50&createdAfter=" .. day_before(i) end),
    by("/runs?sortBy=updatedAt", 100, function() return "/runs?limit=50&sortBy=updatedAt" end),
    by("/dashboard/overview of 24 h", 300, function(i)
      local to = newest - i % 20 * DAY_MS
      return "/dashboard/overview?from=" .. time.iso(to - DAY_MS) .. "&to=" .. time.iso(to)
    end),
    by("/dashboard/overview of 24 h&environment=", 300, function(i)
      local to = newest - i % 20 * DAY_MS
      return "/dashboard/overview?from=" .. time.iso(to - DAY_MS) .. "&to=" .. time.iso(to) .. "&environment="
        .. environments[1 + i % 3]
    end),
    by("/dashboard/overview of 24 h&scenarioRef=", 300, function(i)
      local to = newest - i % 20 * DAY_MS
      return "/dashboard/overview?from=" .. time.iso(to - DAY_MS) .. "&to=" .. time.iso(to) .. "&scenarioRef=pack-"
        .. i % 40 .. "/"
    end),
    by("/events?type=", 100, function(i)
      return "/events?limit=250&type=signal.emitted&afterTs=" .. day_before(i)
    end),
    by("/events?type= that never occurs", 100, function(i) return "/events?limit=250&type=none-" .. i end),
    by("/events?type= of two", 100, function(i)
      return "/events?limit=250&type=run.created,decision.finalized&afterTs=" .. day_before(i)
    end),
    by("/events?afterTs=", 100, function(i) return "/events?limit=250&afterTs=" .. day_before(i) end),
    by("/events?runId=", 100, function(i)
      return "/events?limit=250&runId=" .. made:run_id(1 + i * 4999 % made.runs)
    end),
    by("/events?scenarioRef=", 100, function(i)
      return "/events?limit=250&scenarioRef=scenario-" .. i % 1000 .. "@&afterTs=" .. day_before(i)
    end),
    by("/events?scenarioRef=&type=", 100, function(i)
      return "/events?limit=250&type=signal.emitted&scenarioRef=scenario-" .. i % 1000 .. "@"
    end),
    by("/events?scenarioRef= of many runs&type=", 100, function(i)
      return "/events?limit=250&type=message.received&scenarioRef=pack-" .. i % 40 .. "/&afterTs=" .. day_before(i)
    end),
  }
end

-- (yields) sorted times in ms, nil when the path is not served
local function times_of(st, case)
  local times = {}
  for i = 1, REQUESTS do
    local began = sys.mono_ms()
    local body, status = st:get(case.path(i))
    times[i] = sys.mono_ms() - began
    if status == 404 then return nil end
    if status ~= 200 then error(case.path(i) .. ": " .. status .. " " .. tostring(body)) end
  end
  table.sort(times)
  return times
end

return {
  name = "lists",
  about = "lists of runs and events and the dashboard over a long past, one request after another",
  run = function(report)
    local made = past.open()
    report:note("%d runs, %d events%s", made.runs, made.events,
      made.made_ms and (", made in %.0f s"):format(made.made_ms / 1000) or ", made before")
    local st = stack.new()
    st.database_url = made.conninfo
    local proc = st:serve("plane,runtime", { env = { DASHBOARD_CACHE_MS = "0", RUN_RECOVERY_ENABLED = "false" } })
    for _, case in ipairs(cases(made)) do
      local times = times_of(st, case)
      if times then
        report:at_most(case.name .. " p95", times[math.ceil(#times * 0.95)], case.bound, "ms")
        report:note("  median %.1f ms, slowest %.1f ms", times[math.ceil(#times / 2)], times[#times])
      else
        report:note("  %s is not served", case.name)
      end
    end
    proc:kill()
    proc:wait()
    st:close()
    made:close()
  end,
}
