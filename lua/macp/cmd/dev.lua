-- `macp dev`: everything on this machine, without set-up: a private PostgreSQL, the runtime, the plane, and a session
-- to watch.

local fs = require("host.fs")
local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local config = require("macp.config")
local console = require("macp.core.console")
local demo = require("macp.dev.demo")
local ports = require("macp.dev.ports")
local postgres = require("macp.dev.postgres")
local roles = require("macp.cmd.shared.roles")

local LOOPBACK = "127.0.0.1"
local GENEROUS = 100000 -- a minute
local INTERRUPTED = 130 -- 128 + SIGINT

local M = {
  summary = "Start everything on this machine and play a session.",
  help = [[
  macp dev                          PostgreSQL, runtime and plane in ./.macp, a session to watch; Ctrl-C ends it all
  macp dev --no-demo                the same without the session
  macp dev --data /var/tmp/macp     keep the data elsewhere
  macp dev --modes ./modes          serve modes from a folder; saving a file there is enough to use it
  macp dev --port 8080 --grpc-port 6000
  macp dev --log-level info         tell what happens inside, not only warnings
  MACP_DATA_DIR=.macp/runtime macp sessions list    what its runtime has stored, once it has ended

Agents need no credentials here: the bearer token is the agent's name. Data stays for the next start; remove the folder
to begin anew. When run as root the database server runs as the user `postgres`.]],
  options = {
    { name = "data", value = "DIR", default = ".macp", doc = "Where the database and the journal live." },
    { name = "modes", short = "m", value = "DIR", repeated = true,
      doc = "Folder of coordination modes (default: ./modes when it exists)." },
    { name = "port", value = "N", type = "integer", doc = "HTTP port (default: the setting PORT, 3001); 0: any." },
    { name = "grpc-port", value = "N", type = "integer",
      doc = "gRPC port (default: that of MACP_BIND_ADDR, 50051); 0: any." },
    { name = "no-demo", doc = "Do not play the session." },
    { name = "once", doc = "End when the session has been played: for tests." },
  },
}

local function absolute(path)
  if path:sub(1, 1) == "/" then return path end
  return sys.cwd() .. "/" .. path
end

-- Where to listen: this machine only, on ports that are free. (yields)
local function place(cfg, opts, is_chosen)
  local err
  if not is_chosen["plane.host"] then cfg.plane.host = LOOPBACK end
  cfg.plane.port, err = ports.claim(cfg.plane.host, opts.port or cfg.plane.port, "--port")
  if not cfg.plane.port then return nil, err end
  local host, port = cfg.runtime.bind_addr:match("^(.*):(%d+)$")
  if opts.grpc_port then host = LOOPBACK end
  port, err = ports.claim(host:gsub("[%[%]]", ""), opts.grpc_port or tonumber(port), "--grpc-port")
  if not port then return nil, err end
  cfg.runtime.bind_addr = host .. ":" .. port
  cfg.plane.runtime_address = cfg.runtime.bind_addr
  return cfg.plane.host == LOOPBACK and host == LOOPBACK
end

-- What development means: no credentials, generous limits, data in one folder, and few words about it. (yields)
local function adjust(cfg, opts, data)
  local is_chosen = config.chosen(cfg)
  local is_private, err = place(cfg, opts, is_chosen)
  if err then return nil, err end
  if not is_chosen["log.level"] then log.set_level("warn") end
  cfg.runtime.allow_insecure = true
  cfg.runtime.dev_observers = { cfg.plane.runtime_dev_agent_id }
  cfg.runtime.data_dir = data .. "/runtime"
  cfg.runtime.is_open_on_purpose, cfg.plane.is_open_on_purpose = is_private, is_private
  if not is_chosen["plane.throttle_limit"] then cfg.plane.throttle_limit = GENEROUS end
  if not is_chosen["plane.launcher_enabled"] then cfg.plane.launcher_enabled = true end
  for _, name in ipairs({ "message_limit_per_minute", "session_start_limit_per_minute" }) do
    if not is_chosen["runtime." .. name] then cfg.runtime[name] = GENEROUS end
  end
  if is_private then
    console.print("Development: only this machine can connect; agents are who they say they are, nothing is encrypted.")
  end
  return true
end

-- Mode folders: those asked for, else ./modes. (yields)
local function mode_dirs(opts)
  if opts.modes then return opts.modes end
  local here = fs.stat("modes")
  return here and here.type == "dir" and { "modes" } or {}
end

local function stop(cluster) task.shield(cluster.stop, cluster) end

-- A running database on the current schema. (yields)
local function start_database(data)
  local cluster, err = postgres.start({ dir = data .. "/postgres" })
  if not cluster and err.code == "BUSY" then
    err.message = data .. " is used by another `macp dev`: end that one, or keep the data elsewhere with --data DIR"
  end
  if not cluster then return nil, err end
  local applied
  applied, err = require("macp.store.migrate").upgrade(cluster:conninfo(), "macp migrate")
  if applied then return cluster end
  stop(cluster)
  return nil, err
end

-- Runs fn(...), which a signal ends early. (yields)
---@return any result
---@return table|nil err
---@return boolean is_interrupted
local function interruptible(fn, ...)
  local work = task.spawn(fn, ...)
  local is_over, is_interrupted = false, false
  local function interrupt()
    if is_over then return end
    is_interrupted = true
    work:cancel()
  end
  sys.on_signal("INT", interrupt)
  sys.on_signal("TERM", interrupt)
  local result, err = work:join()
  is_over = true
  return result, err, is_interrupted
end

-- Who edits a mode wants to see that the save has arrived; a mistake is an error in the log.
local function tell_changes(modes)
  modes:on_change(function(rev, how)
    if how ~= "loaded" then return end
    console.print(string.format("mode   %s %s is served as saved (%s)", rev.id, rev.version, rev.hash:sub(1, 15)))
  end)
end

local function play(running, cfg, opts)
  local ok, problem = demo.play({
    url = running.by_name.plane.url, target = cfg.runtime.bind_addr, api_key = cfg.plane.api_keys[1],
  })
  if task.cancelled() then return ok end
  local style = console.style()
  if not ok then
    console.warn(console.error_style().red("macp dev: ") .. "the session could not be played: " .. problem)
  elseif opts.once then
    console.print("\n" .. style.green("done"))
  else
    console.print("\n" .. style.green("done")
      .. "  The session is over and can still be read. Ctrl-C stops everything.")
  end
  return ok
end

---(yields until a signal ends it)
function M.run(opts, cfg)
  io.stdout:setvbuf("line") -- agents print; what they say appears when they say it
  local data = absolute(opts.data)
  local ok, err = adjust(cfg, opts, data)
  if not ok then return nil, err end
  console.print("Starting PostgreSQL in " .. data .. " ...")
  local cluster, is_interrupted
  cluster, err, is_interrupted = interruptible(start_database, data)
  if is_interrupted then
    if cluster then stop(cluster) end
    return INTERRUPTED
  end
  if not cluster then return nil, err end
  cfg.plane.database_url = cluster:conninfo()
  local is_played = true
  local code
  code, err = roles.serve({ "runtime", "plane" }, cfg, {
    mode_dirs = mode_dirs(opts),
    on_ready = function(running, finish)
      tell_changes(running.by_name.runtime.modes)
      if not opts.no_demo then is_played = play(running, cfg, opts) end
      if opts.once then finish() end
    end,
  })
  stop(cluster)
  if code == 0 and opts.once and not is_played then return 1 end
  return code, err
end

return M
