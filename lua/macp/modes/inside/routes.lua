-- Routes: runs the handler of a read endpoint. A handler may not wait, so an unanswered req.ask ends the run; the host
-- performs it and runs the handler again with the answers so far. Handlers are pure, so every run takes the same way as
-- long as the session stays the same: an answer to another question is not taken, and what follows it is asked again.

local native = native

local MAX_ASKS = 64
local PENDING = {}

local M = {}

local function make_ask(answers, wanted)
  local asked = 0
  return function(op, args)
    asked = asked + 1
    if asked > MAX_ASKS then error("more than " .. MAX_ASKS .. " asks in one request", 2) end
    local text, problem = native.json_encode(args or {})
    if text == nil then error("ask: " .. tostring(problem), 2) end
    local answer = answers[asked]
    if answer == nil or answer.op ~= op or answer.args ~= text then
      wanted.op, wanted.args, wanted.at = op, text, asked
      error(PENDING, 0)
    end
    if answer.error then return nil, answer.error end
    return native.json_decode(answer.text)
  end
end

---Runs a handler. Returns "ask", op, args JSON, its number; "reply", status, body JSON; or "fail", code, message.
---@param handler function of routes.lua
---@param req table what the handler gets; `ask` is added
---@param answers table[] { op =, args =, text = } (JSON) or { op =, args =, error = } of the asks so far
function M.run(handler, req, answers)
  local wanted = {}
  req.ask = make_ask(answers, wanted)
  local ok, data, status = pcall(handler, req)
  if not ok then
    if data ~= PENDING then error(data, 0) end
    return "ask", tostring(wanted.op), wanted.args, wanted.at
  end
  if data == nil then
    local failure = type(status) == "table" and status or { "NOT_FOUND", "nothing here" }
    return "fail", tostring(failure[1] or failure.code), tostring(failure[2] or failure.message or "")
  end
  local text, problem = native.json_encode(data)
  if text == nil then error("route: " .. tostring(problem), 0) end
  return "reply", type(status) == "number" and status or 200, text
end

return M
