-- Long replies that are written in pieces, as fast as the client takes them. Nothing is sent before the first piece, so
-- what fails earlier is still an error reply; what fails later cuts the connection, and so does the end of the caller's
-- key.

local sys = require("host.sys")

local errors = require("macp.core.errors")
local caller = require("macp.http.caller")

local GONE = { code = "CLOSED", message = "the client is gone" }

local M = {}

---A function that sends pieces as the reply of a raw route, and one that ends the reply.
---@param ctx macp.Context
---@param content_type string
---@return fun(text: string): true|nil, table|nil write (yields while the client is slow); UNAUTHENTICATED when the
--- caller's key has expired or was taken away
---@return fun() finish
function M.open(ctx, content_type)
  local res = ctx.res
  local function start()
    local headers = { ["content-type"] = content_type, ["cache-control"] = "no-store" }
    ctx:add_headers(headers, 200)
    ctx.started = true
    return res:start(200, headers)
  end
  local function write(text)
    if not ctx.started and not start() then return nil, GONE end
    local reason = caller.refusal(ctx.actor, sys.now_ms())
    if reason then return nil, errors.new("UNAUTHENTICATED", nil, reason) end
    return res:write(text)
  end
  local function finish()
    if not ctx.started then start() end
    if not res:closed() then res:finish() end
  end
  return write, finish
end

---true when the error only says that the client went away.
function M.is_gone(err) return type(err) == "table" and err.code == "CLOSED" end

return M
