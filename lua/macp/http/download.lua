-- Long replies that are written in pieces, as fast as the client takes them. Nothing is sent before the first piece, so
-- what fails earlier is still an error reply; what fails later cuts the connection.

local GONE = { code = "CLOSED", message = "the client is gone" }

local M = {}

---A function that sends pieces as the reply of a raw route, and one that ends the reply.
---@param ctx macp.Context
---@param content_type string
---@return fun(text: string): true|nil, table|nil write (yields while the client is slow)
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
