-- Long replies that are written in pieces, as fast as the client takes them. Nothing is sent before the first piece, so
-- what fails earlier is still an error reply; what fails later cuts the connection, and so does the end of the caller's
-- key.

local sys = require("host.sys")

local errors = require("macp.core.errors")
local caller = require("macp.http.caller")
local compress = require("macp.http.steps.compress")

local GONE = { code = "CLOSED", message = "the client is gone" }

local M = {}

---A function that sends pieces as the reply of a raw route, and one that ends the reply.
---@param ctx macp.Context
---@param content_type string
---@param opts { compress: boolean|nil }|nil compress: as gzip to callers that accept it
---@return fun(text: string): true|nil, table|nil write (yields while the client is slow); UNAUTHENTICATED when the
--- caller's key has expired or was taken away
---@return fun(): true|nil, table|nil finish (yields)
function M.open(ctx, content_type, opts)
  local res, pack = ctx.res, nil
  local function start()
    local headers = { ["content-type"] = content_type, ["cache-control"] = "no-store" }
    if opts and opts.compress then pack = compress.pieces(ctx, headers) end
    ctx:add_headers(headers, 200)
    ctx.started = true
    return res:start(200, headers)
  end
  local function send(text, is_last)
    local bytes, err = text, nil
    if pack then bytes, err = pack(text, is_last) end
    if bytes == nil then return nil, err end
    return #bytes == 0 or res:write(bytes)
  end
  local function write(text)
    if not ctx.started and not start() then return nil, GONE end
    local reason = caller.refusal(ctx.actor, sys.now_ms())
    if reason then return nil, errors.new("UNAUTHENTICATED", nil, reason) end
    return send(text, false)
  end
  local function finish()
    if not ctx.started then start() end
    local ok, err = true, nil
    if pack then ok, err = send("", true) end
    if ok and not res:closed() then res:finish() end
    return ok, err
  end
  return write, finish
end

---true when the error only says that the client went away.
function M.is_gone(err) return type(err) == "table" and err.code == "CLOSED" end

return M
