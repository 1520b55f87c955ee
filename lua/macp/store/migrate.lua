-- Brings the database to the schema this program was built with. Files are migrations/NNNN_what.sql, applied in the
-- order of their names, each in a transaction of its own that holds one advisory lock, so that processes starting
-- together do not run a file twice. A file that was applied must never change: its SHA-256 is kept and compared.

local crypto = require("host.crypto")
local embed = require("host.embed")
local fs = require("host.fs")
local log = require("host.log")

local errors = require("macp.core.errors")
local sql_text = require("macp.store.sql_text")

local LOCK_KEY = "7381240061457021" -- any fixed 64-bit number: names this table's lock

local LIST = "select name, checksum from _migrations"
local LOCK = "select pg_advisory_xact_lock(" .. LOCK_KEY .. ")"
local CREATE = [[create table if not exists _migrations (
  name text primary key, checksum text, applied_at timestamptz not null default now())]]
local FIND = "select checksum from _migrations where name = $1"
local RECORD = "insert into _migrations (name, checksum) values ($1, $2)"

local UNDEFINED_TABLE = "42P01"

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

-- Applies one file unless another process did so meanwhile; true when it was applied here. (yields)
local function apply(db, file, checksum)
  local statements, bad = statements_of(file)
  if statements == nil then return nil, bad end
  return db:tx(function(tx)
    local locked, err = tx:query(LOCK)
    if locked == nil then return nil, err end
    local created, create_err = tx:query(CREATE)
    if created == nil then return nil, create_err end
    local found, find_err = tx:query(FIND, { file.name, n = 1 })
    if found == nil then return nil, find_err end
    if found.rows[1] then return "present" end
    for i, statement in ipairs(statements) do
      local done, statement_err = tx:query(statement)
      if done == nil then
        return nil, errors.wrap(statement_err, string.format("migration %s, statement %d", file.name, i))
      end
    end
    local recorded, record_err = tx:query(RECORD, { file.name, checksum, n = 2 })
    if recorded == nil then return nil, record_err end
    return "applied"
  end)
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
---@param db table pool
---@param files { name: string, text: string }[]|nil
---@return string[]|nil names of the files applied here
---@return table|nil err
function M.run(db, files)
  local status, err = M.status(db, files)
  if status == nil then return nil, err end
  local names = {}
  for _, file in ipairs(status.pending) do
    local outcome, apply_err = apply(db, file, file.checksum)
    if outcome == nil then return nil, apply_err end
    if outcome == "applied" then
      names[#names + 1] = file.name
      log.info("migration.applied", { name = file.name })
    end
  end
  return names
end

return M
