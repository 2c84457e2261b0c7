"""What a training run needs of devices that are not here, before any is rented: memory, FLOPs, traffic, time, money."""
