-- Indexes that are built and dropped beside the writers of their table. Such a statement belongs to no transaction; one
-- that was interrupted leaves an index that PostgreSQL keeps but never reads, which is dropped before the next try.

local errors = require("macp.core.errors")

local IS_BROKEN = [[
select 1 from pg_index i
where i.indexrelid = to_regclass($1) and not i.indisvalid]]

local CREATE = "^create index concurrently if not exists ([%w_]+) on "
local CREATE_UNIQUE = "^create unique index concurrently if not exists ([%w_]+) on "
local DROP = "^drop index concurrently if exists ([%w_]+)$"
local REPEATABLE = { DROP, "^analyze [%w_]+$", "^call [%w_]+%(%)$" }

local M = {}

-- The statement without its comments, in one line.
local function bare(statement)
  local text = statement:gsub("%-%-[^\n]*", ""):gsub("%s+", " ")
  return (text:match("^%s*(.-)%s*$"))
end

local function run(db, text)
  local done, err = db:script(text)
  if done == nil then return nil, err end
  return true
end

-- (yields)
local function drop_broken(db, name)
  local result, err = db:query(IS_BROKEN, { name, n = 1 })
  if result == nil then return nil, err end
  if result.rows[1] == nil then return true end
  return run(db, "drop index concurrently if exists " .. name)
end

---The index that a statement creates, nil when it creates none.
function M.created(statement)
  local text = bare(statement)
  return text:match(CREATE) or text:match(CREATE_UNIQUE)
end

---The index that a statement drops, nil when it drops none.
function M.dropped(statement) return bare(statement):match(DROP) end

---Runs one statement of a file that is applied concurrently. (yields)
---@param db table pool
---@param statement string may have been run before, wholly or in part
---@return true|nil
---@return table|nil err also when the statement is none that may be repeated
function M.apply(db, statement)
  local text, name = bare(statement), M.created(statement)
  if name then
    local dropped, err = drop_broken(db, name)
    if dropped == nil then return nil, err end
    return run(db, statement)
  end
  for _, pattern in ipairs(REPEATABLE) do
    if text:find(pattern) then return run(db, statement) end
  end
  return nil, errors.new("INTERNAL_ERROR", nil, "only create index concurrently if not exists, drop index concurrently "
    .. "if exists, analyze and call of a procedure can be repeated; got " .. text:sub(1, 60))
end

return M
