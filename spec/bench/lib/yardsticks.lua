-- What this machine does right now, so that a slow machine can be told from slow code: flushes, commits, requests of a bare
-- C handler, unary echoes.

local child = require("host.child")
local fs = require("host.fs")
local http = require("host.http")
local pg = require("host.pg")
local sys = require("host.sys")

local json = require("macp.core.json")
local load = require("spec.bench.lib.load")
local wrk = require("spec.bench.lib.wrk")

local COMMITS = 2000
local ECHOES = "60000"

local M = {}

local function run_json(file, args)
  local proc = assert(child.spawn({ file = file, args = args, stdout = "pipe", stderr = "inherit" }))
  local line = proc:read_line("stdout")
  proc:wait()
  proc:close()
  return json.decode(line or "")
end

-- Appends of 300 bytes, each followed by fdatasync, one after another. (yields)
local function fdatasync()
  local dir = assert(fs.temp_dir("macp-sync"))
  local result = run_json(load.programs() .. "/fdatasync", { dir .. "/file" })
  fs.remove_tree(dir)
  return result.rate
end

-- Single-row inserts, one transaction each, one connection. (yields)
local function commits(conninfo)
  local pool = assert(pg.open({ conninfo = conninfo, size = 1 }))
  assert(pool:query(
    "create table if not exists yardstick (id bigint generated always as identity primary key, v text)"))
  local began = sys.mono_ms()
  for _ = 1, COMMITS do assert(pool:query("insert into yardstick (v) values ($1)", { "x" })) end
  local rate = COMMITS / (sys.mono_ms() - began) * 1000
  assert(pool:query("drop table yardstick"))
  pool:close()
  return rate
end

-- A fixed reply made in C, 32 connections. (yields)
local function bare_http()
  local server = assert(http.listen({ host = "127.0.0.1", port = 0 }))
  server:respond_static("/", 200, { ["content-type"] = "application/json" }, '{"ok":true}')
  server:serve(function(_, res) res:send(404) end)
  local result = wrk.run("http://127.0.0.1:" .. server:port() .. "/", { connections = 32, seconds = 3 })
  server:close()
  return result.rate
end

-- Unary echoes of 100 bytes, 64 in flight, between two processes. (yields)
local function echo() return run_json(load.programs() .. "/rpc_echo", { ECHOES, "64", "100" }).rate end

---Measures all of them. (yields)
---@param conninfo string database for the commits
function M.measure(conninfo)
  return { fdatasync = fdatasync(), commit = commits(conninfo), http = bare_http(), echo = echo() }
end

return M
