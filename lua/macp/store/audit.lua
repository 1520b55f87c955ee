-- Table audit_log: who changed what.

local crypto = require("host.crypto")
local pg = require("host.pg")

local db_door = require("macp.store.db")

local INSERT = [[
insert into audit_log (tenant, id, actor, actor_type, action, resource, resource_id, details, request_id)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)]]

local M = {}

local function params_of(tenant, entry)
  return tenant, crypto.uuid7(), entry.actor, entry.actor_type, entry.action, entry.resource, entry.resource_id,
    entry.details or "{}", entry.request_id
end

---@param entry { actor: string, actor_type: string, action: string, resource: string, resource_id: string|nil,
---  details: string|nil (JSON text), request_id: string|nil }
---(yields)
function M.insert(db, tenant, entry) return db_door.exec(db, INSERT, params_of(tenant, entry)) end

---Inserts entries in one transaction. (yields)
---@param list { tenant: string, entry: table }[]
---@return true|nil
---@return table|nil err then nothing is stored
---@return integer|nil index of the entry that the database refuses, when it is one
function M.insert_all(db, list)
  local statements = {}
  for i, item in ipairs(list) do
    statements[i] = { INSERT, { n = 9, params_of(item.tenant, item.entry) } }
  end
  local results, err = db:batch(statements)
  if results then return true end
  local _, failure = db_door.fail(err)
  return nil, failure, err.code == "PG" and err.index or nil
end

local EQUAL = { "actor", "action", "resource", "resource_id" }

---One page of entries, newest first, and how many there are in all. (yields)
---@param query { actor: string|nil, action: string|nil, resource: string|nil, resource_id: string|nil,
---  after_ms: integer|nil, before_ms: integer|nil, limit: integer, offset: integer }
---@return { rows: table[], total: integer }|nil
---@return table|nil err
function M.list(db, tenant, query)
  local filter = db_door.filter(tenant)
  for _, column in ipairs(EQUAL) do
    if query[column] then filter:add(column .. " = ?", query[column]) end
  end
  -- Times are told in whole milliseconds: what is told as the bound is not after it.
  if query.after_ms then filter:add("created_at >= ?", pg.ts(query.after_ms + 1)) end
  if query.before_ms then filter:add("created_at < ?", pg.ts(query.before_ms)) end
  local where = filter:text()
  local count_params = { n = filter.params.n, unpack(filter.params, 1, filter.params.n) }
  local limit, offset = filter:param(query.limit), filter:param(query.offset)
  local results, err = db:batch({
    { "select id, actor, actor_type, action, resource, resource_id, details, request_id, created_at from audit_log "
      .. "where tenant = $1" .. where .. " order by created_at desc, id desc limit " .. limit .. " offset " .. offset,
      filter.params },
    { "select count(*) as total from audit_log where tenant = $1" .. where, count_params },
  })
  if results == nil then return db_door.fail(err) end
  return { rows = results[1].rows, total = results[2].rows[1].total }
end

return M
