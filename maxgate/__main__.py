from maxgate.cli.main import main

main()
