-- Credentials of an agent: a bearer token and the identity that it is expected to stand for.

local sdk_errors = require("macp.sdk.errors")

local Auth = {}
Auth.__index = Auth

local M = {}

---A credential. expected_sender guards against sending under another name by mistake.
---@param opts { bearer_token: string, sender_hint: string|nil, expected_sender: string|nil }
function M.new(opts)
  if type(opts.bearer_token) ~= "string" or opts.bearer_token == "" then
    sdk_errors.raise("MacpSdkError", "bearer_token is required")
  end
  return setmetatable({
    bearer_token = opts.bearer_token,
    sender_hint = opts.sender_hint,
    expected_sender = opts.expected_sender,
    sender = opts.expected_sender or opts.sender_hint,
  }, Auth)
end

---The identity of a runtime in development mode: the token is the name.
function M.for_dev_agent(id, opts)
  return M.new({ bearer_token = id, sender_hint = id, expected_sender = opts and opts.expected_sender or id })
end

---A real token.
function M.for_bearer(token, opts)
  opts = opts or {}
  return M.new({
    bearer_token = token, sender_hint = opts.sender_hint or opts.expected_sender,
    expected_sender = opts.expected_sender,
  })
end

---The headers of a call made with this credential.
function Auth:metadata() return { authorization = "Bearer " .. self.bearer_token } end

---The sender of an envelope: the explicit one, else the credential's, else left to the runtime.
---Raises MacpIdentityMismatchError before anything is sent.
function Auth:resolve_sender(explicit)
  local sender = explicit ~= "" and explicit or self.sender or ""
  if self.expected_sender and sender ~= "" and sender ~= self.expected_sender then
    sdk_errors.raise("MacpIdentityMismatchError",
      string.format("the credential is for '%s', not for '%s'", self.expected_sender, sender),
      { expected = self.expected_sender, actual = sender })
  end
  return sender
end

return M
