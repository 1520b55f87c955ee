-- Replies that were given under an Idempotency-Key: the same request with the same key is answered from here, another one
-- is refused. Locks nothing that exists.

create table idempotency_replies (
  tenant text not null,
  key text not null check (char_length(key) between 1 and 255),
  fingerprint bytea not null,     -- SHA-256 of method, path and body
  claim uuid not null,            -- of the request that works on it
  status integer,                 -- null: not answered yet
  body text,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null, -- a claim ends soon, a reply when it has been kept long enough
  primary key (tenant, key)
);

create index idempotency_replies_expires_at_idx on idempotency_replies (expires_at);
