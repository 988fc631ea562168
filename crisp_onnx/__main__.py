"""`python -m crisp_onnx`: the command line."""

from crisp_onnx.cli import main

if __name__ == "__main__":
    main()
