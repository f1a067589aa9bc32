"""What the operations team does: create, check, repair, move and remove collections; the `collection` command."""
