// The document describes the server that it comes from; requests go there and nowhere else.
window.ui = window.SwaggerUIBundle({
  url: "/docs-json",
  dom_id: "#api",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  filter: true,
  persistAuthorization: false,
  tryItOutEnabled: true,
  validatorUrl: null,
});
