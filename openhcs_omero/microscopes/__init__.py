"""What microscopes and programs call a plate's files, and through which backend each plate is read and written."""
