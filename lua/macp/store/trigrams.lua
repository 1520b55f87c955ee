-- The extension pg_trgm, and the indexes by which texts are found within texts. A database does without them where it may
-- not be created: the schema is the same but for these indexes, and a search reads each run that it may find.

local log = require("host.log")

local errors = require("macp.core.errors")
local db_door = require("macp.store.db")
local online_index = require("macp.store.online_index")

local EXTENSION = "pg_trgm"
local OPERATORS = "gin_trgm_ops" -- of the extension: what names them needs it

local IS_THERE = "select 1 from pg_extension where extname = '" .. EXTENSION .. "'"
local CREATE = "create extension if not exists " .. EXTENSION
local IS_INDEX = "select to_regclass($1) is not null as is_there"

-- Why an extension is neither there nor can be created, by SQLSTATE, and what is to be done.
local REMEDIES = {
  ["0A000"] = "install the contrib modules of PostgreSQL on the database server (Debian has them in postgresql-NN, "
    .. "Red Hat in postgresql-contrib)",
  ["42501"] = "let the owner of the database or a superuser run `create extension %s` in it",
}
REMEDIES["58P01"] = REMEDIES["0A000"]

local M = {}

---What to do when a statement failed because of the extension that it creates, nil when it failed otherwise.
---@param statement string
---@param err { sqlstate: string|nil }
---@return string|nil extension
---@return string|nil remedy
function M.remedy(statement, err)
  local extension = statement:match("create extension if not exists ([%w_]+)")
  local remedy = extension and REMEDIES[err.sqlstate]
  if remedy == nil then return nil end
  return extension, remedy:format(extension)
end

---Does a statement create the extension?
function M.creates(statement) return statement:find(CREATE, 1, true) ~= nil end

---Does a statement need the extension?
function M.needs(statement) return statement:find(OPERATORS, 1, true) ~= nil end

---Does the database have the extension? (yields)
---@return boolean|nil
---@return table|nil err
function M.is_there(db)
  local row, err = db_door.one(db, IS_THERE)
  if row == nil then return nil, err end
  return row ~= false
end

---Creates the extension within a transaction, which goes on when that cannot be. (yields)
---@param tx table
---@param statement string
---@return true|nil
---@return table|nil err when it failed for another reason
function M.create(tx, statement)
  local saved, err = tx:query("savepoint before_extension")
  if saved == nil then return nil, err end
  local created, create_err = tx:query(statement)
  if created then return true end
  local extension, remedy = M.remedy(statement, create_err)
  if extension == nil then return nil, create_err end
  local undone, undo_err = tx:query("rollback to savepoint before_extension")
  if undone == nil then return nil, undo_err end
  log.warn("migration.without_extension", { extension = extension, error = create_err.message, remedy = remedy })
  return true
end

---Indexes that the database lacks because it has not got the extension. (yields)
---@param statements string[] of all files that lock nothing, in their order
---@return { name: string, statement: string, extension: string }[]|nil
---@return table|nil err
function M.missing(db, statements)
  local wanted, names = {}, {}
  for _, statement in ipairs(statements) do
    local created, dropped = online_index.created(statement), online_index.dropped(statement)
    if created and M.needs(statement) then
      wanted[created], names[#names + 1] = statement, created
    elseif dropped then
      wanted[dropped] = nil
    end
  end
  local missing = {}
  for _, name in ipairs(names) do
    local row, err = db_door.one(db, IS_INDEX, name)
    if row == nil then return nil, err end
    if wanted[name] and not row.is_there then
      missing[#missing + 1] = { name = name, statement = wanted[name], extension = EXTENSION }
    end
  end
  return missing
end

---Builds what is missing, if the extension is there or can be created by now. (yields)
---@param missing table[] of M.missing
---@return { built: string[], remedy: string|nil }|nil remedy: what to do first
---@return table|nil err
function M.complete(db, missing)
  if #missing == 0 then return { built = {} } end
  local created, create_err = db:query(CREATE)
  if created == nil then
    local _, remedy = M.remedy(CREATE, create_err)
    if remedy then return { built = {}, remedy = remedy } end
    return db_door.fail(create_err)
  end
  local built = {}
  for i, index in ipairs(missing) do
    local done, err = online_index.apply(db, index.statement)
    if done == nil then return nil, errors.wrap(err, "index " .. index.name) end
    built[i] = index.name
  end
  return { built = built }
end

return M
