-- A database with many runs (spec/support/many_runs.lua) for benchmarks. BENCH_RUNS says how many; it is made in a
-- temporary directory, or once and for all below BENCH_DATA when that names a directory.

local fs = require("host.fs")
local pg = require("host.pg")
local sys = require("host.sys")

local json = require("macp.core.json")
local migrate = require("macp.store.migrate")
local postgres = require("macp.dev.postgres")

local many_runs = require("spec.support.many_runs")

local FILL_MS = 24 * 3600 * 1000 -- statements over millions of rows take their time
local RUNS = 100000 -- a million takes longer to make than a whole run of the other benchmarks

-- Made fast: what a crash leaves behind is made again. Only reading is measured.
local SETTINGS = { fsync = "off", synchronous_commit = "off", full_page_writes = "off", wal_level = "minimal",
  max_wal_senders = 0, max_wal_size = "8GB", shared_buffers = "1GB" }

local Past = {}
Past.__index = Past

local M = {}

-- The directory of the database, and whether it is to be kept. (yields)
local function home(runs)
  local kept = sys.env("BENCH_DATA")
  local dir = kept and (kept .. "/past-" .. runs) or assert(fs.temp_dir("macp-past"))
  assert(fs.mkdir_p(dir))
  assert(fs.chmod(dir, 493)) -- 0755: the server's account must pass
  return dir, kept ~= nil
end

local function make(self, marker, on_step)
  local db = assert(pg.open({ conninfo = self.conninfo, size = 3, statement_timeout_ms = FILL_MS }))
  assert(migrate.run(db))
  local until_ms = sys.now_ms()
  many_runs.fill(db, { runs = self.runs, until_ms = until_ms, on_step = on_step })
  db:close()
  assert(fs.write(marker, json.encode({ untilMs = until_ms })))
  self.until_ms = until_ms
end

---Opens the database, making it when there is none. (yields)
---@param opts { on_step: fun(name: string)|nil }|nil
---@return { conninfo: string, runs: integer, events: integer, until_ms: integer, made_ms: integer|nil, close: function }
function M.open(opts)
  local runs = tonumber(sys.env("BENCH_RUNS") or RUNS)
  assert(runs and runs >= 1000 and runs % 1 == 0, "BENCH_RUNS must be a whole number of at least 1000")
  local self = setmetatable({ runs = runs, events = runs * many_runs.EVENTS_PER_RUN }, Past)
  self.dir, self.is_kept = home(runs)
  local marker = self.dir .. "/complete.json"
  local text = fs.read(marker)
  if text == nil then
    fs.remove_tree(self.dir .. "/data") -- half made
  end
  self.cluster = assert(postgres.start({ dir = self.dir, settings = SETTINGS }))
  self.conninfo = self.cluster:conninfo()
  if text then
    self.until_ms = json.decode(text).untilMs
    local pool = assert(migrate.open(self.conninfo, "bench")) -- it may have been made at an earlier schema
    assert(migrate.run(pool))
    pool:close()
  else
    local began = sys.mono_ms()
    make(self, marker, opts and opts.on_step)
    self.made_ms = sys.mono_ms() - began
  end
  return self
end

---The id of the i-th run. (yields)
function Past:run_id(i)
  self.db = self.db or assert(pg.open({ conninfo = self.conninfo, size = 1 }))
  return assert(self.db:query("select md5('run' || $1::text)::uuid::text as id", { tostring(i), n = 1 })).rows[1].id
end

---Stops the server; what is not kept is removed. (yields)
function Past:close()
  if self.db then self.db:close() end
  self.cluster:stop()
  if not self.is_kept then fs.remove_tree(self.dir) end
end

return M
