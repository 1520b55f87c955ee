-- Table audit_log: who changed what.

local crypto = require("host.crypto")

local db_door = require("macp.store.db")

local INSERT = [[
insert into audit_log (tenant, id, actor, actor_type, action, resource, resource_id, details, request_id)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)]]

local M = {}

---@param entry { actor: string, actor_type: string, action: string, resource: string, resource_id: string|nil,
---  details: string|nil (JSON text), request_id: string|nil }
---(yields)
function M.insert(db, tenant, entry)
  return db_door.exec(db, INSERT, tenant, crypto.uuid7(), entry.actor, entry.actor_type, entry.action,
    entry.resource, entry.resource_id, entry.details or "{}", entry.request_id)
end

return M
