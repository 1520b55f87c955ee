-- The door to PostgreSQL for store modules: opens the pool, runs one statement, and turns the host's failures into
-- typed errors. Store modules take `db` first: the pool or a transaction.

local pg = require("host.pg")

local errors = require("macp.core.errors")
local observed_pool = require("macp.store.observed_pool")

local UNIQUE_VIOLATION = "23505"
local FOREIGN_KEY_VIOLATION = "23503"

local M = { UNIQUE_VIOLATION = UNIQUE_VIOLATION }

-- First statement of a batch that sorts or gathers much: memory for that, until the batch is over, and pages that lie far
-- apart are read ahead of their use, unless the server cannot (0).
M.ROOM = { "select set_config('work_mem', '32MB', true), case when ahead > 0 then "
  .. "set_config('effective_io_concurrency', greatest(ahead, 64)::text, true) end "
  .. "from (select current_setting('effective_io_concurrency')::integer as ahead) setting", { n = 0 } }

---Opens the pool; connections are made when they are first needed.
---@param opts { url: string, max: integer, idle_ms: integer, acquire_ms: integer, statement_ms: integer,
--- silence_ms: integer, name: string, observe: macp.store.Observe }
function M.open(opts)
  local pool, err = pg.open({
    conninfo = opts.url, size = opts.max, idle_close_ms = opts.idle_ms, acquire_timeout_ms = opts.acquire_ms,
    statement_timeout_ms = opts.statement_ms, silence_timeout_ms = opts.silence_ms, application_name = opts.name,
  })
  if pool == nil then return nil, err end
  return observed_pool.new(pool, opts.observe)
end

-- The host's words for a database that cannot be asked: no connection, or none free in time.
local AWAY = { UNAVAILABLE = true, TIMEOUT = true }

local DEADLOCK, SERIALIZATION = "40P01", "40001"

-- What the database did not do, and may do when it is asked again.
local NOT_NOW = {
  ["57014"] = "the database took too long", -- statement_timeout
  ["55P03"] = "what this needs stayed locked for too long", -- lock_timeout
  [DEADLOCK] = "others changed the same at the same time", [SERIALIZATION] = "others changed the same at the same time",
}
local NO_RESOURCES = "53" -- class: disk, memory, connections

local function not_now(err)
  if AWAY[err.code] then return "the database does not answer" end
  local state = err.sqlstate or ""
  return NOT_NOW[state] or state:sub(1, 2) == NO_RESOURCES and "the database is out of resources"
end

-- A row without what it belongs to: that was deleted after the request had found it.
local function orphaned(err)
  if err.message:find("_run_id_fkey", 1, true) then
    return errors.new("RUN_NOT_FOUND", nil, "the run was deleted meanwhile")
  end
  return errors.new("NOT_FOUND", nil, "what this belongs to was deleted meanwhile")
end

---The typed error of a failed statement; the host's error stays reachable as `cause`.
function M.fail(err)
  if errors.is_typed(err) or err.code == "CANCELLED" then return nil, err end
  local why = not_now(err)
  if why then
    local away = errors.new("SERVICE_UNAVAILABLE", nil, why)
    away.cause = err
    return nil, away
  end
  if err.sqlstate == FOREIGN_KEY_VIOLATION then
    local gone = orphaned(err)
    gone.cause = err
    return nil, gone
  end
  return nil, errors.wrap(err, "database")
end

---Whether a typed error says that transactions got in each other's way: in smaller ones they may not.
---@param err table as M.fail made it
function M.is_collision(err)
  local sqlstate = type(err.cause) == "table" and err.cause.sqlstate
  return sqlstate == DEADLOCK or sqlstate == SERIALIZATION
end

---Rows of one statement. (yields)
---@return table[]|nil rows
---@return table|nil err
function M.rows(db, text, ...)
  local result, err = db:query(text, { n = select("#", ...), ... })
  if result == nil then return M.fail(err) end
  return result.rows
end

---The first row of one statement, or false when there is none. (yields)
---@return table|false|nil row
---@return table|nil err
function M.one(db, text, ...)
  local rows, err = M.rows(db, text, ...)
  if rows == nil then return nil, err end
  return rows[1] or false
end

---Number of rows that one statement changed. (yields)
---@return integer|nil count
---@return table|nil err
function M.exec(db, text, ...)
  local result, err = db:query(text, { n = select("#", ...), ... })
  if result == nil then return M.fail(err) end
  return result.n
end

---Runs fn(tx) in one transaction: committed when it returns, undone when it raises or returns nil, err. (yields)
---@return any|nil what fn returned
---@return table|nil err
function M.tx(db, fn)
  local value, err = db:tx(fn)
  if value == nil and err ~= nil then return M.fail(err) end
  return value
end

---The lines of the plans of some statements. (yields)
---@param statements { [1]: string, [2]: table }[] as pool:batch takes them
---@return string[]|nil
---@return table|nil err
function M.explain(db, statements)
  local lines = {}
  for _, statement in ipairs(statements) do
    local result, err = db:query("explain " .. statement[1], statement[2])
    if result == nil then return M.fail(err) end
    for _, row in ipairs(result.rows) do lines[#lines + 1] = row["QUERY PLAN"] end
  end
  return lines
end

---Adds a reusable fragment `name = $n` list: builds `and` conditions with numbered parameters.
---@class macp.store.Filter
local Filter = {}
Filter.__index = Filter

---@param tenant string becomes $1
function M.filter(tenant)
  return setmetatable({ conditions = {}, params = { tenant, n = 1 } }, Filter)
end

---Adds a parameter and returns its placeholder.
function Filter:param(value)
  local params = self.params
  params.n = params.n + 1
  params[params.n] = value
  return "$" .. params.n
end

---Adds a condition; every `?` in it stands for the value.
function Filter:add(condition, value)
  local placeholder = self:param(value)
  self.conditions[#self.conditions + 1] = (condition:gsub("%?", placeholder))
end

---Adds a condition without a value.
function Filter:only(condition)
  self.conditions[#self.conditions + 1] = condition
end

---` and a and b`, or nothing.
function Filter:text()
  if #self.conditions == 0 then return "" end
  return " and " .. table.concat(self.conditions, " and ")
end

---The text of the conditions that `add` adds to this filter, which are not kept; their parameters are.
---@param add fun(): nil
function Filter:apart(add)
  local kept = self.conditions
  self.conditions = {}
  add()
  local text = self:text()
  self.conditions = kept
  return text
end

---A pattern that finds `text` anywhere, with the wildcards in it taken literally.
function M.contains(text)
  return "%" .. text:gsub("[\\%%_]", "\\%0") .. "%"
end

return M
