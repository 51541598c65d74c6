machine "core" {
	image	= "docker主机"
	memory = "主"
	/* 主 */ disk = "1GB"
	accel = "\u001b[31m"
}
