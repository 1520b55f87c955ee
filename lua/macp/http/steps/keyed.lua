-- The Idempotency-Key of requests that change something: with a key a request is done once, and its reply is given again
-- to whoever repeats it. Once begun it is carried through even if the caller goes away, so that the repetition finds it.

local crypto = require("host.crypto")
local task = require("host.task")

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local utf8 = require("macp.core.utf8")

local MAX_BYTES = 255
local REPLAYED = { ["idempotent-replayed"] = "true" }

local M = {}

---The header for the OpenAPI document.
M.PARAMETER = {
  name = "Idempotency-Key", ["in"] = "header", required = false,
  schema = { type = "string", minLength = 1, maxLength = MAX_BYTES },
  description = "The same key and request give the first answer again (Idempotent-Replayed: true), another request "
    .. "with it 409. What failed is not kept.",
}

---The key of a request, nil without one. Raises VALIDATION_ERROR when it cannot be one.
---@param headers table<string, string>
---@return string|nil
function M.key_of(headers)
  local key = headers["idempotency-key"]
  if key == nil then return nil end
  if key == "" or #key > MAX_BYTES or not utf8.is_text(key) or key:find("%c") then
    error(errors.new("VALIDATION_ERROR", nil, "Idempotency-Key must be a text of 1 to 255 bytes"), 0)
  end
  return key
end

-- Equal requests have equal ones, however their JSON was written.
local function fingerprint(ctx)
  local req = ctx.req
  local body = ctx.body ~= nil and json.canonical(ctx.body) or req.body or ""
  return crypto.sha256(table.concat({ req.method, req.path, req.query or "", body }, "\0"))
end

---Whether a route takes a key: it changes something, answers at once and has no means of its own (keyed = false).
function M.is_keyed(route)
  if route.keyed ~= nil then return route.keyed end
  return route.method == "POST" and route.audit ~= nil and not route.raw
end

---@param app { replies: macp.plane.Replies|nil }
---@return (fun(ctx: macp.Context, act: fun(ctx: macp.Context): integer, any, table|nil): integer, any, table|nil)|nil
--- runs act once per key; act raises what fails
function M.compile(route, app)
  local replies = app.replies
  if replies == nil or not M.is_keyed(route) then return nil end
  local function once(ctx, act, key, claim)
    local ok, status, body, headers = xpcall(act, function(err)
      return type(err) == "table" and err or { message = tostring(err), traceback = debug.traceback("", 2) }
    end, ctx)
    if not ok then
      replies:release(ctx.tenant, key, claim)
      error(status, 0)
    end
    replies:answer(ctx.tenant, key, claim, status, tostring(body or ""))
    return status, body, headers
  end
  return function(ctx, act)
    local key = M.key_of(ctx.headers)
    if key == nil then return act(ctx) end
    return task.shield(function()
      local claim, earlier = replies:begin(ctx.tenant, key, fingerprint(ctx))
      if claim == nil then error(earlier, 0) end
      if claim then return once(ctx, act, key, claim) end
      return earlier.status, earlier.body ~= "" and earlier.body or nil, REPLAYED
    end)
  end
end

return M
