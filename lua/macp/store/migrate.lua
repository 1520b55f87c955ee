-- Migrations: the files of migrations/ bring a database to this program's schema. They are applied in the order of their
-- names while one advisory lock is held, so that processes starting together do not run a file twice. A file that was
-- applied must never change: its SHA-256 is kept and compared.
--
-- A file is one transaction, unless its first line is CONCURRENTLY: such a file builds or drops indexes of tables that
-- are being written to, statement by statement, and begins again where it was interrupted.

local crypto = require("host.crypto")
local embed = require("host.embed")
local fs = require("host.fs")
local log = require("host.log")
local pg = require("host.pg")
local sys = require("host.sys")
local task = require("host.task")

local errors = require("macp.core.errors")
local fault = require("macp.core.fault")
local online_index = require("macp.store.online_index")
local sql_text = require("macp.store.sql_text")
local trigrams = require("macp.store.trigrams")

local LOCK_KEY = "7381240061457021" -- any fixed 64-bit number: names this table's lock
local LOCK_POLL_MS = 100
local LOCK_TOLD_MS = 15000
local CONCURRENTLY = "-- migrate: concurrently"

-- A change of a table waits this long for those who use it: whoever comes later waits behind it. Then they go first.
local DDL_WAIT_MS = 3000
local DDL_TRIES = 20

local ENDLESS_MS = 2147483647
local CONNECTIONS = 2 -- one holds the lock, one works

local LIST = "select name, checksum from _migrations"
local TRY_LOCK = "select pg_try_advisory_xact_lock(" .. LOCK_KEY .. ") as locked"
local LIMITS = "select set_config('lock_timeout', $1, true)"
local CREATE = [[create table if not exists _migrations (
  name text primary key, checksum text, applied_at timestamptz not null default now())]]
local FIND = "select checksum from _migrations where name = $1"
local RECORD = "insert into _migrations (name, checksum) values ($1, $2)"

local UNDEFINED_TABLE = "42P01"
local LOCK_NOT_AVAILABLE = "55P03"

local M = {}

-- The folder on disk when scripts are read from there (MACP_ROOT). (yields)
local function files_on_disk(dir)
  local entries, err = fs.list(dir)
  if entries == nil then return nil, err end
  local files = {}
  for _, entry in ipairs(entries) do
    if entry.name:find("%.sql$") then
      local text, read_err = fs.read(dir .. "/" .. entry.name)
      if text == nil then return nil, read_err end
      files[#files + 1] = { name = entry.name, text = text }
    end
  end
  return files
end

---The migration files of this program in order: { name, text }. (yields)
function M.files()
  local root = embed.root()
  if root then return files_on_disk(root .. "/migrations") end
  local files = {}
  for _, path in ipairs(embed.list("migrations/")) do
    local name = path:match("([^/]+%.sql)$")
    if name then files[#files + 1] = { name = name, text = embed.read(path) } end
  end
  return files
end

-- name -> checksum of what the database has; empty when it has nothing. (yields)
local function applied(db)
  local result, err = db:query(LIST)
  if result == nil then
    if err.sqlstate == UNDEFINED_TABLE then return {} end
    return nil, err
  end
  local names = {}
  for _, row in ipairs(result.rows) do names[row.name] = row.checksum or "" end
  return names
end

local function changed(name)
  return errors.new("INTERNAL_ERROR", nil,
    "migration " .. name .. " was changed after it had been applied; restore the file")
end

-- Statements of one file, or an error that names file and reason.
local function statements_of(file)
  local statements, reason = sql_text.split(file.text)
  if statements == nil then
    return nil, errors.new("INTERNAL_ERROR", nil, "migration " .. file.name .. ": " .. reason)
  end
  return statements
end

local function is_concurrent(file) return file.text:sub(1, #CONCURRENTLY) == CONCURRENTLY end

local function record(db, file)
  return db:query(RECORD, { file.name, file.checksum, n = 2 })
end

-- The error of the i-th statement of a file, with what to do where that is known.
local function failed(file, i, statement, err)
  local where = string.format("migration %s, statement %d", file.name, i)
  local extension, remedy = trigrams.remedy(statement, err)
  if extension == nil then return errors.wrap(err, where) end
  return errors.new("INTERNAL_ERROR", nil, string.format("%s needs the extension %s: %s; %s, then try again",
    where, extension, err.message, remedy))
end

-- Whether a statement is left out, because of the extension that the database does without. (yields)
local function is_spared(db, statement)
  if not trigrams.needs(statement) then return false end
  local is_there, err = trigrams.is_there(db)
  if is_there == nil then return nil, err end
  return not is_there
end

-- One statement in a transaction. (yields)
local function apply_statement(tx, statement)
  if trigrams.creates(statement) then return trigrams.create(tx, statement) end
  local spared, err = is_spared(tx, statement)
  if spared == nil then return nil, err end
  if spared then return true end
  return tx:query(statement)
end

-- One file in one transaction. (yields)
local function apply_once(db, file, statements)
  return db:tx(function(tx)
    local limited, err = tx:query(LIMITS, { DDL_WAIT_MS .. "ms", n = 1 })
    if limited == nil then return nil, err end
    for i, statement in ipairs(statements) do
      local done, statement_err = apply_statement(tx, statement)
      if done == nil then
        local wrapped = failed(file, i, statement, statement_err)
        wrapped.is_busy = statement_err.sqlstate == LOCK_NOT_AVAILABLE
        return nil, wrapped
      end
    end
    fault("migration.before_commit")
    return record(tx, file)
  end)
end

-- The same, again while the tables are in use. (yields)
local function apply_in_transaction(db, file, statements)
  for try = 1, DDL_TRIES do
    local done, err = apply_once(db, file, statements)
    if done or not err.is_busy or try == DDL_TRIES then return done, err end
    log.info("migration.waiting", { name = file.name, reason = err.message, tries = try })
    local slept, sleep_err = task.sleep(DDL_WAIT_MS / 3)
    if not slept then return nil, sleep_err end
  end
end

-- Statements that lock nothing for long; each may have been done before. (yields)
local function apply_concurrently(db, file, statements)
  for i, statement in ipairs(statements) do
    local done, err = is_spared(db, statement)
    if done == false then done, err = online_index.apply(db, statement) end
    if done == nil then
      return nil, errors.wrap(err, string.format("migration %s, statement %d", file.name, i))
    end
  end
  return record(db, file)
end

-- Applies one file unless another process did so meanwhile; true when it was applied here. (yields)
local function apply(db, file)
  local statements, bad = statements_of(file)
  if statements == nil then return nil, bad end
  local found, err = db:query(FIND, { file.name, n = 1 })
  if found == nil then return nil, err end
  if found.rows[1] then return "present" end
  local began = sys.mono_ms()
  local done
  done, err = (is_concurrent(file) and apply_concurrently or apply_in_transaction)(db, file, statements)
  if done == nil then return nil, err end
  fault("migration.applied")
  log.info("migration.applied", { name = file.name, ms = math.floor(sys.mono_ms() - began) })
  return "applied"
end

-- Runs fn while this process is the one that migrates. Others ask again and again instead of waiting in a statement: an
-- index that is built beside the writers waits for every statement that began before it. (yields)
local function locked(db, fn)
  local told_at
  while true do
    local value, err = db:tx(function(tx)
      local result, lock_err = tx:query(TRY_LOCK)
      if result == nil then return nil, lock_err end
      if not result.rows[1].locked then return false end
      -- This comes last: the result of a query would keep its snapshot, for which the builders of indexes wait.
      local limits, limits_err = tx:query("set local idle_in_transaction_session_timeout = 0")
      if limits == nil then return nil, limits_err end
      return fn()
    end)
    if value ~= false then return value, err end
    if told_at == nil or sys.mono_ms() - told_at > LOCK_TOLD_MS then
      told_at = sys.mono_ms()
      log.info("migration.waiting", { reason = "another process migrates this database" })
    end
    local slept, sleep_err = task.sleep(LOCK_POLL_MS)
    if not slept then return nil, sleep_err end
  end
end

---Which files are missing in the database. One query when nothing is. (yields)
---@param db table pool
---@param files { name: string, text: string }[]|nil default: those of this program
---@return { pending: table[], applied: integer }|nil
---@return table|nil err also when an applied file was changed
function M.status(db, files)
  local err
  if files == nil then
    files, err = M.files()
    if files == nil then return nil, err end
  end
  local present
  present, err = applied(db)
  if present == nil then return nil, err end
  local status = { pending = {}, applied = 0 }
  for _, file in ipairs(files) do
    local checksum = crypto.sha256_hex(file.text)
    local known = present[file.name]
    if known == nil then
      status.pending[#status.pending + 1] = { name = file.name, text = file.text, checksum = checksum }
    elseif known ~= "" and known ~= checksum then
      return nil, changed(file.name)
    else
      status.applied = status.applied + 1
    end
  end
  return status
end

---Applies what is missing. (yields)
---@param db table pool of at least two connections, whose statements may take long
---@param files { name: string, text: string }[]|nil
---@return string[]|nil names of the files applied here
---@return table|nil err
function M.run(db, files)
  local status, err = M.status(db, files)
  if status == nil then return nil, err end
  if #status.pending == 0 then return {} end
  return locked(db, function()
    local created, create_err = db:query(CREATE)
    if created == nil then return nil, create_err end
    local names = {}
    for _, file in ipairs(status.pending) do
      local outcome, apply_err = apply(db, file)
      if outcome == nil then return nil, apply_err end
      if outcome == "applied" then names[#names + 1] = file.name end
    end
    return names
  end)
end

---Indexes that the database does without, because of an extension that was not there when they were to be built. (yields)
---@return { name: string, statement: string, extension: string }[]|nil
---@return table|nil err
function M.missing(db)
  local files, err = M.files()
  if files == nil then return nil, err end
  local all = {}
  for _, file in ipairs(files) do
    local statements, bad = statements_of(file)
    if statements == nil then return nil, bad end
    if is_concurrent(file) then
      for _, statement in ipairs(statements) do all[#all + 1] = statement end
    end
  end
  return trigrams.missing(db, all)
end

---Builds the indexes that are missing, if that can be by now. (yields)
---@param db table pool as for M.run
---@param missing table of M.missing
---@return { built: string[], remedy: string|nil }|nil remedy: what to do first
---@return table|nil err
function M.complete(db, missing)
  if #missing == 0 then return { built = {} } end
  return locked(db, function() return trigrams.complete(db, missing) end)
end

---A pool as M.run needs it.
---@param url string
---@param name string how its connections are called in pg_stat_activity
function M.open(url, name)
  return pg.open({ conninfo = url, size = CONNECTIONS, application_name = name,
    statement_timeout_ms = ENDLESS_MS, lock_timeout_ms = ENDLESS_MS })
end

---Applies what is missing, over connections of its own. (yields)
---@param url string
---@param name string
---@return string[]|nil names
---@return table|nil err
function M.upgrade(url, name)
  local db, err = M.open(url, name)
  if db == nil then return nil, err end
  local names, failure = M.run(db)
  task.shield(db.close, db)
  return names, failure
end

return M
