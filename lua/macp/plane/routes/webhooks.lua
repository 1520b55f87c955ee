-- Routes of webhooks: who is told of runs, what came of it, and once more.

local errors = require("macp.core.errors")
local shape = require("macp.plane.routes.shape")
local service = require("macp.plane.webhooks.service")

local check = errors.check

local EVENTS = { type = "array", maxItems = 16, uniqueItems = true,
  items = { type = "string", enum = service.EVENTS } }
local URL = { type = "string", format = "uri", maxLength = 2048 }
local SECRET = { type = "string", minLength = 16, maxLength = 255 }
local UUID = { type = "string", format = "uuid" }
local DATE = { type = "string", format = "date-time" }

local CREATE_BODY = {
  title = "CreateWebhookRequest", type = "object", required = { "url", "secret" }, additionalProperties = false,
  properties = { url = URL, events = EVENTS, secret = SECRET, ordered = { type = "boolean", default = false } },
}

local UPDATE_BODY = {
  title = "UpdateWebhookRequest", type = "object", additionalProperties = false,
  properties = {
    url = URL, events = EVENTS, secret = SECRET, active = { type = "boolean" }, ordered = { type = "boolean" },
    secretOverlapSeconds = { type = "integer", minimum = 0, maximum = 2592000 },
  },
}

local REDELIVER_BODY = {
  title = "RedeliverRequest", type = "object", additionalProperties = false,
  properties = {
    deliveryIds = { type = "array", minItems = 1, maxItems = 1000, items = UUID },
    event = { type = "string", enum = service.EVENTS }, createdAfter = DATE, createdBefore = DATE,
    limit = { type = "integer", minimum = 1, maximum = 1000, default = 1000 },
  },
}

local LOG_QUERY = {
  type = "object",
  properties = {
    status = { type = "string", enum = { "pending", "delivered", "failed" } },
    limit = { type = "integer", minimum = 1, maximum = 200, default = 50 },
    offset = { type = "integer", minimum = 0, maximum = service.MAX_OFFSET, default = 0 },
    cursor = { type = "integer", minimum = 1 },
  },
}

local ONE = { type = "object", properties = { id = UUID, deliveryId = UUID } }

local COUNT, TEXT, FLAG, nullable = shape.COUNT, shape.TEXT, shape.FLAG, shape.nullable

local Webhook = shape.object("Webhook", {
  id = UUID, url = TEXT, events = shape.TEXTS, secret = { type = "string", description = "Masked." }, active = FLAG,
  ordered = FLAG, disabledReason = nullable(TEXT), previousSecretExpiresAt = nullable(DATE), createdAt = DATE,
  updatedAt = DATE,
  deliveryStats = shape.object(nil, { total = COUNT, succeeded = COUNT, failed = COUNT }, { lastDeliveredAt = DATE }),
})

local DELIVERY = {
  id = UUID, webhookId = UUID, event = TEXT, runId = nullable(UUID),
  status = { type = "string", enum = { "pending", "delivered", "failed" } }, attempts = COUNT,
  nextAttemptAt = nullable(DATE), lastAttemptAt = nullable(DATE), responseStatus = nullable(COUNT),
  errorMessage = nullable(TEXT), createdAt = DATE, deliveredAt = nullable(DATE),
}

local Delivery = shape.object("WebhookDelivery", DELIVERY)

local WHOLE = { payload = shape.ANY_OBJECT, attemptLog = shape.list(shape.object("DeliveryAttempt",
  { at = DATE }, { durationMs = COUNT, status = COUNT, error = TEXT, response = TEXT })) }
for name, schema in pairs(DELIVERY) do WHOLE[name] = schema end
local WholeDelivery = shape.object("WholeDelivery", WHOLE)

local Deliveries = shape.object("DeliveryPage", { data = shape.list(Delivery), limit = COUNT, offset = COUNT,
  nextCursor = nullable(COUNT) })

local Tested = shape.object("WebhookTest", { ok = FLAG, deliveryId = UUID, responseStatus = nullable(COUNT),
  error = nullable(TEXT), durationMs = COUNT, response = nullable(TEXT) })

local Redelivered = shape.object("Redelivered", { redelivered = COUNT })

local M = {}

---@param plane { webhooks: macp.plane.Webhooks, audit: macp.plane.Audit }
function M.routes(plane)
  local hooks, audit = plane.webhooks, plane.audit

  local function create(ctx, body)
    return 201, audit:within(ctx, "webhook.created", function(tx)
      local hook, err = hooks:create(tx, ctx.tenant, body)
      if hook then ctx.resource_id = hook.id end
      return hook, err
    end)
  end

  local function list(ctx) return 200, check(hooks:list(ctx.tenant)) end

  local function get(ctx) return 200, check(hooks:get(ctx.tenant, ctx.params.id)) end

  local function update(ctx, body)
    local hook = audit:within(ctx, "webhook.updated", function(tx)
      return hooks:update(tx, ctx.tenant, ctx.params.id, body)
    end)
    hooks:wake()
    return 200, hook
  end

  local function remove(ctx)
    check(hooks:empty(ctx.tenant, ctx.params.id))
    audit:within(ctx, "webhook.deleted", function(tx) return hooks:delete(tx, ctx.tenant, ctx.params.id) end)
    return 204
  end

  local function deliveries(ctx) return 200, check(hooks:deliveries(ctx.tenant, ctx.params.id, ctx.query)) end

  local function delivery(ctx)
    return 200, check(hooks:delivery(ctx.tenant, ctx.params.id, ctx.params.deliveryId))
  end

  local function redeliver(ctx)
    local again = audit:within(ctx, "webhook.redelivered", function(tx)
      return hooks:redeliver(tx, ctx.tenant, ctx.params.id, ctx.params.deliveryId)
    end)
    hooks:wake()
    return 200, again
  end

  local function redeliver_many(ctx, body)
    local told = audit:within(ctx, "webhook.redelivered", function(tx)
      return hooks:redeliver_many(tx, ctx.tenant, ctx.params.id, body)
    end)
    hooks:wake()
    return 200, told
  end

  local function test(ctx) return 200, check(hooks:test(ctx.tenant, ctx.params.id)) end

  local function route(method, path, scope, handler, more)
    more.method, more.path, more.scope, more.tag, more.handler = method, path, scope, "webhooks", handler
    return more
  end

  return {
    route("POST", "/webhooks", "webhooks:write", create, { body = CREATE_BODY, audit = "webhook.created",
      returns = { [201] = Webhook }, summary = "Register a webhook",
      description = "Events of runs are posted to the URL, each at least once: in order per run, with `ordered` one "
        .. "after the other. No `events`, or `*`, means all. The secret signs and is never shown." }),
    route("GET", "/webhooks", "webhooks:read", list, { returns = { [200] = { type = "array", items = Webhook } },
      summary = "Webhooks" }),
    route("GET", "/webhooks/:id", "webhooks:read", get, { returns = { [200] = Webhook }, summary = "One webhook" }),
    route("PATCH", "/webhooks/:id", "webhooks:write", update, { body = UPDATE_BODY, audit = "webhook.updated",
      returns = { [200] = Webhook }, summary = "Change a webhook",
      description = "Another secret signs from now on; the one before signs too for `secretOverlapSeconds`." }),
    route("DELETE", "/webhooks/:id", "webhooks:write", remove, { audit = "webhook.deleted",
      returns = { [204] = { type = "null" } }, summary = "Delete a webhook and its deliveries" }),
    route("POST", "/webhooks/:id/test", "webhooks:write", test, { audit = "webhook.tested",
      returns = { [200] = Tested }, summary = "Post a test event now",
      description = "One attempt, `webhook.test`, also to an inactive webhook. Tells what the receiver answered." }),
    route("GET", "/webhooks/:id/deliveries", "webhooks:read", deliveries, { query = LOG_QUERY,
      returns = { [200] = Deliveries }, summary = "Deliveries of a webhook, newest first",
      description = "`cursor` takes the `nextCursor` of the page before." }),
    route("GET", "/webhooks/:id/deliveries/:deliveryId", "webhooks:read", delivery, { params = ONE,
      returns = { [200] = WholeDelivery }, summary = "One delivery with its payload and attempts" }),
    route("POST", "/webhooks/:id/deliveries/:deliveryId/redeliver", "webhooks:write", redeliver, { params = ONE,
      audit = "webhook.redelivered", refuses = { 409 }, returns = { [200] = Delivery }, summary = "Deliver once more",
      description = "Same id, same bytes, all attempts again." }),
    route("POST", "/webhooks/:id/redeliver", "webhooks:write", redeliver_many, { body = REDELIVER_BODY,
      audit = "webhook.redelivered", refuses = { 409 }, returns = { [200] = Redelivered },
      summary = "Deliver many once more",
      description = "The named deliveries, or the oldest failed ones that fit event and time." }),
  }
end

return M
