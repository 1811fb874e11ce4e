"""`make chaos`: real runs that are really killed, and whether what goes on from them is what was never killed."""
