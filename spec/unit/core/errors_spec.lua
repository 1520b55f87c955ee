local errors = require("macp.core.errors")

describe("errors.new", function()
  it("takes a message, metadata or both", function()
    local plain = errors.new("RUN_NOT_FOUND")
    assert.same({ "RUN_NOT_FOUND", "run not found", 404, 5 }, { plain.code, plain.message, plain.http, plain.grpc })
    assert.equal("gone", errors.new("RUN_NOT_FOUND", "gone").message)
    local both = errors.new("CONFLICT", { run_id = "x" }, "already there")
    assert.same({ "already there", { run_id = "x" } }, { both.message, both.metadata })
    assert.equal("conflict", errors.new("CONFLICT", { a = 1 }).message)
  end)

  it("refuses codes that nobody declared", function()
    assert.has_error(function() errors.new("RUN_NOT_FUOND") end)
  end)

  it("reads as code and message", function()
    assert.equal("CONFLICT: twice", tostring(errors.new("CONFLICT", "twice")))
    local invalid = errors.validation({ { message = "a must be b" }, { message = "c must be d" } })
    assert.equal("VALIDATION_ERROR: a must be b; c must be d", tostring(invalid))
    assert.same({ "a must be b", "c must be d" }, invalid.message)
  end)

  local statuses = {
    { "VALIDATION_ERROR", 400 }, { "INVALID_SESSION_ID", 400 }, { "UNAUTHENTICATED", 401 }, { "FORBIDDEN", 403 },
    { "POLICY_DENIED", 403 }, { "NOT_FOUND", 404 }, { "CONFLICT", 409 }, { "INVALID_STATE_TRANSITION", 409 },
    { "SESSION_ALREADY_EXISTS", 409 }, { "ENDPOINT_REMOVED", 410 }, { "PAYLOAD_TOO_LARGE", 413 },
    { "RATE_LIMITED", 429 }, { "INTERNAL_ERROR", 500 }, { "NOT_IMPLEMENTED", 501 }, { "RUNTIME_UNAVAILABLE", 503 },
    { "CIRCUIT_BREAKER_OPEN", 503 }, { "RUNTIME_TIMEOUT", 504 }, { "SESSION_NOT_FOUND", 404 },
    { "SESSION_NOT_OPEN", 409 }, { "INVALID_ENVELOPE", 400 }, { "UNSUPPORTED_PROTOCOL_VERSION", 400 },
  }
  for _, case in ipairs(statuses) do
    it(case[1] .. " is HTTP " .. case[2], function() assert.equal(case[2], errors.new(case[1]).http) end)
  end

  local grpc = {
    { "UNAUTHENTICATED", "UNAUTHENTICATED" }, { "FORBIDDEN", "PERMISSION_DENIED" },
    { "PAYLOAD_TOO_LARGE", "RESOURCE_EXHAUSTED" }, { "RATE_LIMITED", "RESOURCE_EXHAUSTED" },
    { "INTERNAL_ERROR", "INTERNAL" }, { "INVALID_SESSION_ID", "INVALID_ARGUMENT" },
    { "INVALID_POLICY_DEFINITION", "INVALID_ARGUMENT" }, { "SESSION_ALREADY_EXISTS", "ALREADY_EXISTS" },
    { "POLICY_DENIED", "FAILED_PRECONDITION" }, { "INVALID_ENVELOPE", "FAILED_PRECONDITION" },
    { "SESSION_NOT_FOUND", "FAILED_PRECONDITION" }, { "UNKNOWN_POLICY_VERSION", "FAILED_PRECONDITION" },
  }
  for _, case in ipairs(grpc) do
    it(case[1] .. " is gRPC " .. case[2], function()
      assert.equal(errors.grpc[case[2]], errors.new(case[1]).grpc)
    end)
  end
end)

describe("errors.from_grpc", function()
  local cases = {
    { 3, "VALIDATION_ERROR" }, { 11, "VALIDATION_ERROR" }, { 16, "UNAUTHENTICATED" }, { 7, "FORBIDDEN" },
    { 5, "NOT_FOUND" }, { 9, "CONFLICT" }, { 10, "CONFLICT" }, { 6, "CONFLICT" }, { 8, "RATE_LIMITED" },
    { 12, "NOT_IMPLEMENTED" }, { 14, "RUNTIME_UNAVAILABLE" }, { 4, "RUNTIME_TIMEOUT" }, { 2, "INTERNAL_ERROR" },
    { 13, "INTERNAL_ERROR" }, { 15, "INTERNAL_ERROR" },
  }
  for _, case in ipairs(cases) do
    it("status " .. case[1] .. " becomes " .. case[2], function()
      local err = errors.from_grpc(case[1], "the words")
      assert.same({ case[2], "the words", { grpcCode = case[1] } }, { err.code, err.message, err.metadata })
    end)
  end
end)

describe("errors.check", function()
  it("passes results through", function()
    assert.same({ 1, 2, 3 }, { errors.check(1, 2, 3) })
    assert.is_nil((errors.check(nil)))
    assert.is_false((errors.check(false)))
  end)

  it("raises the error itself", function()
    local err = errors.new("CONFLICT")
    local ok, raised = pcall(errors.check, nil, err)
    assert.is_false(ok)
    assert.equal(err, raised)
  end)
end)

describe("errors.wrap", function()
  it("keeps code and metadata of typed errors", function()
    local wrapped = errors.wrap(errors.new("CONFLICT", { a = 1 }, "twice"), "create run")
    assert.same({ "CONFLICT", "create run: twice", { a = 1 } }, { wrapped.code, wrapped.message, wrapped.metadata })
  end)

  it("makes host errors and strings internal", function()
    local wrapped = errors.wrap({ code = "TIMEOUT", message = "no answer" }, "query")
    assert.same({ "INTERNAL_ERROR", "query: no answer" }, { wrapped.code, wrapped.message })
    assert.equal("TIMEOUT", wrapped.cause.code)
    assert.is_true(errors.is_typed(wrapped))
    assert.is_false(errors.is_typed(wrapped.cause))
    assert.is_true(errors.is(wrapped.cause, "TIMEOUT"))
    assert.is_false(errors.is("TIMEOUT", "TIMEOUT"))
  end)
end)
