"""nginx in front of replicas of the gateway."""
