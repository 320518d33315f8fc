"""How microscopes and programs name the files of a plate, and which backend reads and writes each plate."""
