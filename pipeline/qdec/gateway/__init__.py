"""The process that tells the outside how the service is: metrics and health over HTTP."""
