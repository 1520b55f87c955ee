-- Variables that the public servers know and this program has no use for: name -> why. Whoever sets one is told at start.

return {
  STREAM_MAX_RETRIES = "a lost session stream is opened again for as long as its session may go on",
  RUNTIME_STREAM_SUBSCRIPTION_MESSAGE_TYPE = "sessions are subscribed to by their id",
  RUNTIME_STREAM_SUBSCRIBER_ID = "the control plane subscribes as whoever its credential names",
}
