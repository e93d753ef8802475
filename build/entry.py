"""The script that PyInstaller makes the program of. What it starts is the product's own."""

from appliance.cli.one_file import main

main()
